//! The action `http`: one call of an HTTP service.
//!
//! Input: `{"method": "POST", "url": "https://…", "headers": {…}, "json": any | "body": "text",
//! "timeout_ms": 30000, "response_headers": ["x-total"]}`, all but `url` optional. Result:
//! `{"status": 200, "headers": {…}, "body": any}`; the body is JSON where the service says so,
//! else text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pled_engine::value::{Object, Value};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::guard::{GuardedResolver, Reach};
use crate::action::handler::{Handler, Task, TaskError};

/// Headers of a response that a result always carries, where they are there.
const RESPONSE_HEADERS: [&str; 4] = ["content-type", "etag", "location", "retry-after"];

/// How the action `http` may be used.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Which addresses may be called; default: public ones.
    pub reach: Reach,
    /// How long a call may take if its input says nothing.
    pub timeout: Duration,
    /// The longest body of a response in bytes; a result is kept in the journal.
    pub response_bytes_max: usize,
    /// How many redirects are followed; each is checked like the first address. Default: none.
    pub redirects_max: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            reach: Reach::default(),
            timeout: Duration::from_secs(30),
            response_bytes_max: 256 * 1024,
            redirects_max: 0,
        }
    }
}

/// The handler of the action `http`. Clones share connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    config: Arc<HttpConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    #[serde(default)]
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    json: Option<Value>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    response_headers: Vec<String>,
}

impl Http {
    /// Makes a client for all calls of this worker. Proxies of the environment are not used: they
    /// would connect where the guard does not see it.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(config: HttpConfig) -> Result<Self, reqwest::Error> {
        let config = Arc::new(config);
        let reach = Arc::new(config.reach.clone());
        let client = reqwest::Client::builder()
            .user_agent(concat!("pled/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirects(reach.clone(), config.redirects_max))
            .dns_resolver(Arc::new(GuardedResolver { reach }))
            .build()?;
        Ok(Self { client, config })
    }

    async fn call(self, task: Task) -> Result<Value, TaskError> {
        let call: Call = task.parse()?;
        let wanted = call.response_headers.clone();
        let request = self.request(call, &task)?;
        let response = self.client.execute(request).await.map_err(|error| failed_call(&error))?;

        let status = response.status();
        let headers = response.headers().clone();
        let body = self.read(response, &headers).await?;
        let result = Object::from_iter([
            ("status", Value::from(u32::from(status.as_u16()))),
            ("headers", kept_headers(&headers, &wanted)),
            ("body", body),
        ]);
        if status.is_success() {
            Ok(result.into())
        } else {
            Err(failed_status(status, &headers, result))
        }
    }

    fn request(&self, call: Call, task: &Task) -> Result<reqwest::Request, TaskError> {
        let bad = |message: String| TaskError::fatal("bad_input", message);
        let url: Url =
            call.url.parse().map_err(|error| bad(format!("url {:?}: {error}", call.url)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("url {:?}: only http and https are called", call.url)));
        }
        self.config
            .reach
            .check_literal(&url)
            .map_err(|refused| TaskError::fatal("address_refused", refused.to_string()))?;

        let method = match call.method {
            Some(method) => Method::from_bytes(method.to_ascii_uppercase().as_bytes())
                .map_err(|_| bad(format!("{method:?} is no method")))?,
            None if call.json.is_some() || call.body.is_some() => Method::POST,
            None => Method::GET,
        };
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", header_value(&task.key)?);
        if let Some(traceparent) = &task.traceparent {
            headers.insert("traceparent", header_value(traceparent)?);
        }
        if call.json.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &call.headers {
            let name: HeaderName =
                name.parse().map_err(|_| bad(format!("{name:?} is no header name")))?;
            headers.insert(name, header_value(value)?);
        }

        let timeout = call.timeout_ms.map_or(self.config.timeout, Duration::from_millis);
        let request = self.client.request(method, url).headers(headers).timeout(timeout);
        let request = match (call.json, call.body) {
            (Some(_), Some(_)) => return Err(bad("both json and body are given".to_owned())),
            (Some(json), None) => request.body(json.to_canonical()),
            (None, Some(text)) => request.body(text),
            (None, None) => request,
        };
        request.build().map_err(|error| bad(error.without_url().to_string()))
    }

    /// Reads the body, never more than the bound.
    async fn read(
        &self,
        mut response: reqwest::Response,
        headers: &HeaderMap,
    ) -> Result<Value, TaskError> {
        let longest = self.config.response_bytes_max;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed_call(&error))? {
            if body.len() + chunk.len() > longest {
                return Err(TaskError::fatal(
                    "response_too_large",
                    format!("the response is longer than {longest} bytes"),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(match Value::parse(&body) {
            Ok(json) if is_json(headers) => json,
            Ok(_) | Err(_) => String::from_utf8_lossy(&body).into_owned().into(),
        })
    }
}

impl Handler for Http {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        Box::pin(self.clone().call(task))
    }
}

/// Follows up to `most` redirects whose address may be called; names are judged by the resolver.
fn redirects(reach: Arc<Reach>, most: usize) -> reqwest::redirect::Policy {
    if most == 0 {
        return reqwest::redirect::Policy::none();
    }
    reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > most {
            return attempt.stop();
        }
        match reach.check_literal(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    })
}

fn header_value(text: &str) -> Result<HeaderValue, TaskError> {
    HeaderValue::from_str(text).map_err(|_| {
        TaskError::fatal("bad_input", "a header value has a line break or a control character")
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
}

fn kept_headers(headers: &HeaderMap, wanted: &[String]) -> Value {
    let wanted = wanted.iter().map(|name| name.to_ascii_lowercase());
    let kept = RESPONSE_HEADERS.into_iter().map(str::to_owned).chain(wanted);
    let kept = kept.filter_map(|name| {
        let value = headers.get(name.as_str())?.to_str().ok()?;
        Some((name, Value::from(value)))
    });
    kept.collect::<Object>().into()
}

/// No response came. The URL is left out: it may hold secrets in its query.
fn failed_call(error: &reqwest::Error) -> TaskError {
    let mut causes = vec![];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<super::guard::Refused>() {
            return TaskError::fatal("address_refused", refused.to_string());
        }
        causes.push(cause.to_string());
        source = cause.source();
    }
    let message = causes.pop().unwrap_or_else(|| "no response".to_owned());
    if error.is_timeout() {
        TaskError::retryable("timeout", "the service did not answer in time")
    } else if error.is_connect() {
        TaskError::retryable("connect", message)
    } else {
        TaskError::retryable("http", message)
    }
}

/// A response came that is no success.
fn failed_status(status: StatusCode, headers: &HeaderMap, mut result: Object) -> TaskError {
    let retryable = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    let pause = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if let Some(milliseconds) = pause.and_then(|seconds| seconds.checked_mul(1_000)) {
        result.insert("retry_after_ms", milliseconds.into());
    }
    TaskError {
        code: format!("http_{}", status.as_u16()),
        message: format!("the service answered {status}"),
        details: result.into(),
        retryable,
    }
}
