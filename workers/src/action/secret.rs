//! Secrets: values that a deployment gives to a worker's process by name. Bindings refer to them,
//! and only the process that makes the call ever sees them.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use pled_engine::value::{Object, Value, write_string};

use super::handler::TaskError;

/// What stands where a secret was.
const MASK: &str = "***";
/// A shorter value cannot be taken out of an answer without taking out much else.
const BYTES_MIN: usize = 4;
/// How the environment names them: `PLED_SECRET_<NAME>`.
const PREFIX: &str = "PLED_SECRET_";

/// Where a worker finds secrets: a file of the name in its folder, if it has one, else the
/// environment variable `PLED_SECRET_<NAME>`. They are read at each call, so a file that is
/// replaced is used at once.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The folder.
    pub folder: Option<PathBuf>,
}

/// The name of a secret: `[A-Z][A-Z0-9_]{0,63}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

impl SecretName {
    /// `None`: `name` is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
        (begins && name.len() <= 64 && name.bytes().all(word)).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A secret's value. It is not shown.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl Secrets {
    /// Whether this process has it.
    #[must_use]
    pub fn knows(&self, name: &SecretName) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.join(name.as_str()).is_file())
            || std::env::var_os(format!("{PREFIX}{name}")).is_some()
    }

    /// The value. That it is missing may be mended, so another attempt may help.
    pub(crate) async fn get(&self, name: &SecretName) -> Result<Secret, TaskError> {
        let missing = |why: String| {
            TaskError::retryable("secret_missing", format!("the secret {name} {why}"))
        };
        let value = match self.in_folder(name).await {
            Ok(Some(value)) => value,
            Ok(None) => std::env::var(format!("{PREFIX}{name}"))
                .map_err(|_| missing("is not given to this worker".to_owned()))?,
            Err(error) => return Err(missing(format!("cannot be read: {}", error.kind()))),
        };
        if value.len() < BYTES_MIN {
            return Err(missing(format!("has fewer than {BYTES_MIN} bytes")));
        }
        Ok(Secret(value))
    }

    async fn in_folder(&self, name: &SecretName) -> std::io::Result<Option<String>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        match tokio::fs::read_to_string(folder.join(name.as_str())).await {
            Ok(text) => {
                // Editors and shells end a file with a line break that is not meant.
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A text that may name secrets: `Bearer ${secret:PAYMENTS_TOKEN}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretText(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Plain(String),
    Secret(SecretName),
}

impl SecretText {
    /// Reads a text.
    ///
    /// # Errors
    /// If it has `${` without a reference behind it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let name = after.strip_prefix("secret:").and_then(|named| named.split_once('}'));
            let name = name.and_then(|(name, rest)| Some((SecretName::parse(name)?, rest)));
            let Some((name, after)) = name else {
                return Err("`${` begins a reference, `${secret:NAME}`, and NAME is of capitals, \
                            digits and `_`"
                    .to_owned());
            };
            parts.push(Part::Plain(before.to_owned()));
            parts.push(Part::Secret(name));
            rest = after;
        }
        parts.push(Part::Plain(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Plain(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The secrets that it names.
    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().filter_map(|part| match part {
            Part::Plain(_) => None,
            Part::Secret(name) => Some(name),
        })
    }

    /// The text with the secrets in it; what is taken is known to `mask` from now on.
    pub(crate) async fn fill(
        &self,
        secrets: &Secrets,
        mask: &mut Mask,
    ) -> Result<String, TaskError> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Plain(text) => filled.push_str(text),
                Part::Secret(name) => {
                    let secret = secrets.get(name).await?;
                    filled.push_str(secret.expose());
                    mask.cover(&secret);
                }
            }
        }
        Ok(filled)
    }
}

/// Takes the secrets of a call out of what came of it, in case the service repeats them.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    values: Vec<String>,
}

impl Mask {
    /// Covers the value as it is, and as it stands inside a JSON text.
    pub(crate) fn cover(&mut self, secret: &Secret) {
        let mut quoted = Vec::new();
        write_string(secret.expose(), &mut quoted);
        let quoted = String::from_utf8_lossy(&quoted);
        let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        for form in [secret.expose(), inside] {
            if !self.values.iter().any(|known| known == form) {
                self.values.push(form.to_owned());
            }
        }
        // A secret that holds another goes first.
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for value in &self.values {
            if masked.contains(value.as_str()) {
                masked = Cow::Owned(masked.replace(value.as_str(), MASK));
            }
        }
        masked
    }

    pub(crate) fn value(&self, value: Value) -> Value {
        if self.values.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => self.text(&text).into_owned().into(),
            Value::Array(items) => {
                items.iter().map(|item| self.value(item.clone())).collect::<Vec<_>>().into()
            }
            Value::Object(members) => {
                let members = members
                    .iter()
                    .map(|(key, value)| (self.text(key).into_owned(), self.value(value.clone())));
                members.collect::<Object>().into()
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_)) => plain,
        }
    }

    pub(crate) fn error(&self, error: TaskError) -> TaskError {
        TaskError {
            code: self.text(&error.code).into_owned(),
            message: self.text(&error.message).into_owned(),
            details: self.value(error.details),
            ..error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_secrets_in_one_way_only() {
        let text = SecretText::parse("Bearer ${secret:A_1}, ${secret:B}").unwrap();
        assert_eq!(text.names().map(SecretName::as_str).collect::<Vec<_>>(), ["A_1", "B"]);
        assert_eq!(SecretText::parse("$5 {x} $").unwrap().names().count(), 0);

        for wrong in ["${A}", "${secret:}", "${secret:a}", "${secret:A", "${secret:../A}", "${}"] {
            assert!(SecretText::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_secret_is_taken_out_of_all_that_a_service_repeats() {
        let folder = std::env::temp_dir().join(format!("pled-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("TOKEN"), "s3\"cr3t\n").unwrap();
        let secrets = Secrets { folder: Some(folder.clone()) };
        let mut mask = Mask::default();
        let text = SecretText::parse("Bearer ${secret:TOKEN}").unwrap();

        let filled = text.fill(&secrets, &mut mask).await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();

        assert_eq!(filled, "Bearer s3\"cr3t");
        let echoed = r#"{"a":["Bearer s3\"cr3t"],"s3\"cr3t":1,"json":"{\"t\":\"s3\\\"cr3t\"}"}"#;
        let masked = mask.value(Value::parse(echoed.as_bytes()).unwrap()).to_string();
        assert_eq!(masked, r#"{"***":1,"a":["Bearer ***"],"json":"{\"t\":\"***\"}"}"#);
        let missing = SecretText::parse("${secret:NOT_THERE_AT_ALL}").unwrap();
        let error = missing.fill(&secrets, &mut mask).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("secret_missing", true));
    }
}
