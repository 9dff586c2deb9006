//! The action `webhook`: an HTTP call that its receiver can prove, signed as Standard Webhooks says.
//!
//! Input: `{"url": "https://…", "secret": "WEBHOOK_…", "data": any, "timeout_ms": 30000}`. The secret
//! is named, and is one of those whose name begins with `WEBHOOK_`: a template must not have
//! anything signed with a key that is for something else. Result: `{"status": 200}`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use pled_engine::id::Hash;
use pled_engine::value::{Object, Value};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use sha2::Sha256;

use super::http::{Exchange, Http, RetryOn, own_headers};
use crate::action::handler::{Handler, Task, TaskError};
use crate::action::secret::{SecretName, Secrets};

/// How the names of secrets begin that a template may have something signed with.
const SECRETS: &str = "WEBHOOK_";
/// How long a call may take if the input says nothing.
const TIMEOUT_MS: u64 = 30_000;
/// The longest answer that is read; nothing of it is kept.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// The handler of the action `webhook`.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Makes the calls.
    pub http: Http,
    /// Has the secrets.
    pub secrets: Secrets,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    url: String,
    secret: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

impl Webhook {
    async fn perform(self, task: Task) -> Result<Value, TaskError> {
        let bad = |message: String| TaskError::fatal("bad_input", message);
        let input: Input = task.parse()?;
        let url: Url =
            input.url.parse().map_err(|error| bad(format!("url {:?}: {error}", input.url)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("url {:?}: only http and https are called", input.url)));
        }
        let secret =
            SecretName::parse(&input.secret).filter(|name| name.as_str().starts_with(SECRETS));
        let secret = secret.ok_or_else(|| {
            bad(format!("`secret` is the name of a secret that begins with {SECRETS}"))
        })?;
        let timeout = Duration::from_millis(input.timeout_ms.unwrap_or(TIMEOUT_MS));
        self.send(&url, &secret, timeout, &task, &input.data).await
    }

    /// Sends `data`, signed. The id is the same over all attempts, so a receiver takes it once.
    pub(crate) async fn send(
        &self,
        url: &Url,
        secret: &SecretName,
        timeout: Duration,
        task: &Task,
        data: &Value,
    ) -> Result<Value, TaskError> {
        let key = self.secrets.get(secret).await?;
        let body = data.to_canonical();
        let id = message_id(&task.key);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = sign(key.expose(), &id, now, &body).ok_or_else(|| {
            let message = format!("the secret {secret} is no whsec_ and base64 behind it");
            TaskError::fatal("bad_secret", message)
        })?;
        let mut headers = own_headers(task)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", id),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", signature),
        ] {
            headers.insert(HeaderName::from_static(name), value.try_into()?);
        }
        let exchange = Exchange {
            method: Method::POST,
            url: url.clone(),
            headers,
            body: Some(body.into()),
            timeout,
            bytes_max: RESPONSE_BYTES_MAX,
            keep_headers: Vec::new(),
            retry_on: RetryOn::default(),
            follow: false,
        };
        let answer = self.http.exchange(exchange).await?;
        let status = Value::from(u32::from(answer.status.as_u16()));
        Ok(Object::from_iter([("status", status)]).into())
    }
}

impl Handler for Webhook {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        Box::pin(self.clone().perform(task))
    }
}

/// `msg_` and 32 hexadecimal digits: a task's key has dots and slashes, which some receivers refuse.
fn message_id(key: &str) -> String {
    format!("msg_{}", &Hash::of(key.as_bytes()).to_string()[..32])
}

/// `v1,` and the base64 of HMAC-SHA256 of `<id>.<timestamp>.<body>`; `None` if the secret is none.
fn sign(secret: &str, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_signed_as_the_standard_s_own_example() {
        let signature = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );

        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert_eq!(sign("not base64", "a", 1, b""), None);
    }
}
