//! What the `nats` command would connect with: its variables and contexts.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::connection::{ConnectError, ConnectOptions};
use crate::publish::Mode;

const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// A context file of the `nats` command, as far as it concerns connecting.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    url: String,
    user: String,
    password: String,
    token: String,
    creds: String,
    nkey: String,
    user_jwt: String,
    user_seed: String,
    cert: String,
    key: String,
    ca: String,
    tls_first: bool,
    inbox_prefix: String,
    jetstream_domain: String,
}

/// See [`ConnectOptions::from_env`]; `variable` reads the environment, without empty values.
pub(crate) fn options(
    name: &str,
    url_flag: Option<&str>,
    context_flag: Option<&str>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<ConnectOptions, ConnectError> {
    let folder = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))
        .map(|config| config.join("nats"));
    let named = context_flag.map(str::to_owned).or_else(|| variable("NATS_CONTEXT"));
    let context = match (named, &folder) {
        (Some(context), Some(folder)) => read(folder, &context)?,
        (Some(context), None) => {
            return Err(ConnectError::Options(format!(
                "the NATS context {context:?} cannot be found: neither HOME nor XDG_CONFIG_HOME \
                 is set"
            )));
        }
        (None, Some(folder)) => selected(folder)?,
        (None, None) => Context::default(),
    };
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    let text = |name: &str, of_context: String| variable(name).or_else(|| filled(of_context));
    let path = |name: &str, of_context: String| text(name, of_context).map(PathBuf::from);
    let url = url_flag
        .map(str::to_owned)
        .or_else(|| text("NATS_URL", context.url))
        .unwrap_or_else(|| DEFAULT_URL.to_owned());
    Ok(ConnectOptions {
        url,
        creds: path("NATS_CREDS", context.creds),
        user: text("NATS_USER", context.user),
        password: text("NATS_PASSWORD", context.password),
        token: text("NATS_TOKEN", context.token),
        nkey: path("NATS_NKEY", context.nkey),
        jwt: text("NATS_JWT", context.user_jwt),
        seed: text("NATS_SEED", context.user_seed),
        ca: path("NATS_CA", context.ca),
        cert: path("NATS_CERT", context.cert),
        key: path("NATS_KEY", context.key),
        tls_first: context.tls_first,
        inbox_prefix: filled(context.inbox_prefix),
        jetstream_domain: filled(context.jetstream_domain),
        name: name.to_owned(),
        prefix: variable("PLED_PREFIX").unwrap_or_else(|| "pled".to_owned()),
        mode: variable("PLED_PUBLISH").map(|text| mode(&text)).transpose()?,
        monitoring: variable("PLED_NATS_MONITOR"),
    })
}

fn mode(text: &str) -> Result<Mode, ConnectError> {
    match text {
        "relaxed" => Ok(Mode::Relaxed),
        "durable" => Ok(Mode::Durable),
        "replicated" => Ok(Mode::Replicated),
        _ => Err(ConnectError::Options(format!(
            "PLED_PUBLISH is {text:?} and must be relaxed, durable or replicated"
        ))),
    }
}

/// The context that `nats context select` chose, or an empty one.
fn selected(folder: &Path) -> Result<Context, ConnectError> {
    match std::fs::read_to_string(folder.join("context.txt")) {
        Ok(name) if !name.trim().is_empty() => read(folder, name.trim()),
        Ok(_) | Err(_) => Ok(Context::default()),
    }
}

fn read(folder: &Path, name: &str) -> Result<Context, ConnectError> {
    if name.contains(['/', '\\']) || name.contains("..") {
        return Err(ConnectError::Options(format!("{name:?} is no name of a NATS context")));
    }
    let path = folder.join("context").join(format!("{name}.json"));
    let text = std::fs::read(&path).map_err(|error| {
        ConnectError::Options(format!("the NATS context {}: {error}", path.display()))
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        ConnectError::Options(format!("the NATS context {}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_context(text: &str) -> (PathBuf, impl Fn(&str) -> Option<String>) {
        let home = std::env::temp_dir().join(format!(
            "pled-context-{}-{}",
            std::process::id(),
            text.len()
        ));
        let folder = home.join("nats").join("context");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(home.join("nats").join("context.txt"), "shop\n").unwrap();
        std::fs::write(folder.join("shop.json"), text).unwrap();
        let config = home.to_string_lossy().into_owned();
        (home, move |name: &str| (name == "XDG_CONFIG_HOME").then(|| config.clone()))
    }

    #[test]
    fn the_selected_context_is_honoured_and_variables_and_flags_stand_above_it() {
        let (home, env) =
            with_context(r#"{"url":"nats://shop:4222","creds":"/keys/shop.creds","user":""}"#);

        let plain = options("test", None, None, &env).unwrap();
        assert_eq!(plain.url, "nats://shop:4222");
        assert_eq!(plain.creds.unwrap(), Path::new("/keys/shop.creds"));
        assert!(plain.user.is_none());

        let over = |name: &str| {
            if name == "NATS_URL" { Some("nats://env:4222".to_owned()) } else { env(name) }
        };
        assert_eq!(options("test", None, None, &over).unwrap().url, "nats://env:4222");
        assert_eq!(
            options("test", Some("nats://flag:1"), None, &over).unwrap().url,
            "nats://flag:1"
        );
        assert!(options("test", None, Some("nowhere"), &env).is_err());
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn without_anything_the_local_server_is_meant() {
        let options = options("test", None, None, &|_| None).unwrap();

        assert_eq!(options.url, DEFAULT_URL);
        assert_eq!(options.prefix, "pled");
    }
}
