//! The action `http`: one call of an HTTP service.
//!
//! Input: `{"method": "POST", "url": "https://…", "headers": {…}, "json": any | "body": "text",
//! "timeout_ms": 30000, "response_headers": ["x-total"], "retry_on": [429, "5xx"]}`, all but `url`
//! optional. Result: `{"status": 200, "headers": {…}, "body": any}`; the body is JSON where the
//! service says so, else text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
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
    /// Certificates of authorities that are trusted beside the system's.
    pub authorities: Vec<reqwest::Certificate>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            reach: Reach::default(),
            timeout: Duration::from_secs(30),
            response_bytes_max: 256 * 1024,
            redirects_max: 0,
            authorities: Vec::new(),
        }
    }
}

/// The handler of the action `http`. Clones share connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    /// Follows no redirects.
    straight: reqwest::Client,
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
    #[serde(default)]
    retry_on: Option<Value>,
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
        let client = |redirects: usize| {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("pled/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .redirect(follow(reach.clone(), redirects))
                .dns_resolver(Arc::new(GuardedResolver { reach: reach.clone() }));
            if !config.authorities.is_empty() {
                builder = builder.tls_certs_merge(config.authorities.iter().cloned());
            }
            builder.build()
        };
        let (client, straight) = (client(config.redirects_max)?, client(0)?);
        Ok(Self { client, straight, config })
    }

    async fn call(self, task: Task) -> Result<Value, TaskError> {
        let exchange = self.exchange_of(task.parse()?, &task)?;
        let keep = exchange.keep_headers.clone();
        let answer = self.exchange(exchange).await?;
        Ok(answer.into_value(&keep))
    }

    /// Makes a call and reads the whole answer, if it is a success.
    pub(crate) async fn exchange(&self, exchange: Exchange) -> Result<Answer, TaskError> {
        let bad = |message: String| TaskError::fatal("bad_input", message);
        self.config
            .reach
            .check_literal(&exchange.url)
            .map_err(|refused| TaskError::fatal("address_refused", refused.to_string()))?;
        let client = if exchange.follow { &self.client } else { &self.straight };
        let request = client
            .request(exchange.method, exchange.url)
            .headers(exchange.headers)
            .timeout(exchange.timeout);
        let request = match exchange.body {
            Some(body) => request.body(body),
            None => request,
        };
        let request = request.build().map_err(|error| bad(error.without_url().to_string()))?;
        let response = client.execute(request).await.map_err(|error| failed_call(&error))?;

        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response, &headers, exchange.bytes_max).await?;
        let answer = Answer { status, headers, body };
        if status.is_success() {
            Ok(answer)
        } else {
            Err(failed_status(answer, &exchange.keep_headers, &exchange.retry_on))
        }
    }

    fn exchange_of(&self, call: Call, task: &Task) -> Result<Exchange, TaskError> {
        let bad = |message: String| TaskError::fatal("bad_input", message);
        let url: Url =
            call.url.parse().map_err(|error| bad(format!("url {:?}: {error}", call.url)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("url {:?}: only http and https are called", call.url)));
        }
        let method = match call.method {
            Some(method) => Method::from_bytes(method.to_ascii_uppercase().as_bytes())
                .map_err(|_| bad(format!("{method:?} is no method")))?,
            None if call.json.is_some() || call.body.is_some() => Method::POST,
            None => Method::GET,
        };
        let mut headers = own_headers(task)?;
        if call.json.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &call.headers {
            let name: HeaderName =
                name.parse().map_err(|_| bad(format!("{name:?} is no header name")))?;
            headers.insert(name, header_value(value)?);
        }
        let body = match (call.json, call.body) {
            (Some(_), Some(_)) => return Err(bad("both json and body are given".to_owned())),
            (Some(json), None) => Some(json.to_canonical().into()),
            (None, Some(text)) => Some(text.into()),
            (None, None) => None,
        };
        let retry_on = call.retry_on.as_ref().map_or_else(|| Ok(RetryOn::default()), RetryOn::read);
        Ok(Exchange {
            method,
            url,
            headers,
            body,
            timeout: call.timeout_ms.map_or(self.config.timeout, Duration::from_millis),
            bytes_max: self.config.response_bytes_max,
            keep_headers: call.response_headers,
            retry_on: retry_on.map_err(|message| bad(format!("retry_on: {message}")))?,
            follow: true,
        })
    }
}

/// One call, ready to be made.
pub(crate) struct Exchange {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) timeout: Duration,
    /// The longest body of the response.
    pub(crate) bytes_max: usize,
    /// Headers of the response that are wanted, beside the usual ones.
    pub(crate) keep_headers: Vec<String>,
    pub(crate) retry_on: RetryOn,
    /// Whether redirects are followed, where the worker follows them at all. A header with a secret
    /// must not go to another host.
    pub(crate) follow: bool,
}

/// What a service answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    /// `{"status", "headers", "body"}`
    pub(crate) fn into_value(self, keep_headers: &[String]) -> Value {
        Object::from_iter([
            ("status", Value::from(u32::from(self.status.as_u16()))),
            ("headers", kept_headers(&self.headers, keep_headers)),
            ("body", self.body),
        ])
        .into()
    }
}

/// The failures after which another attempt may help, by the status of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn(Vec<std::ops::RangeInclusive<u16>>);

impl Default for RetryOn {
    /// 408, 425, 429 and 5xx.
    fn default() -> Self {
        Self(vec![408..=408, 425..=425, 429..=429, 500..=599])
    }
}

impl RetryOn {
    /// Reads `[409, 429, "5xx"]`.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(value: &Value) -> Result<Self, String> {
        let of = |status: &Value| match status {
            Value::Int(status) => {
                let status = u16::try_from(*status).ok().filter(|s| (300..600).contains(s))?;
                Some(status..=status)
            }
            Value::String(class) => match &**class {
                "3xx" => Some(300..=399),
                "4xx" => Some(400..=499),
                "5xx" => Some(500..=599),
                _ => None,
            },
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Array(_) | Value::Object(_) => {
                None
            }
        };
        let ranges = value.as_array().and_then(|list| list.iter().map(of).collect());
        ranges.map(Self).ok_or_else(|| {
            "it must be an array of statuses, 409, and classes of them, \"5xx\"".to_owned()
        })
    }

    fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

/// What every call carries: the idempotency key, as `Idempotency-Key`, and the trace.
pub(crate) fn own_headers(task: &Task) -> Result<HeaderMap, TaskError> {
    let mut headers = HeaderMap::new();
    headers.insert("idempotency-key", header_value(&task.key)?);
    if let Some(traceparent) = &task.traceparent {
        headers.insert("traceparent", header_value(traceparent)?);
    }
    Ok(headers)
}

/// Reads the body, never more than the bound.
async fn read(
    mut response: reqwest::Response,
    headers: &HeaderMap,
    longest: usize,
) -> Result<Value, TaskError> {
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

impl Handler for Http {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        Box::pin(self.clone().call(task))
    }
}

/// Follows up to `most` redirects whose address may be called; names are judged by the resolver.
fn follow(reach: Arc<Reach>, most: usize) -> reqwest::redirect::Policy {
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
fn failed_status(answer: Answer, keep_headers: &[String], retry_on: &RetryOn) -> TaskError {
    let status = answer.status;
    let retryable = retry_on.contains(status);
    let pause = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after_ms =
        pause.filter(|_| retryable).and_then(|text| retry_after_ms(text, SystemTime::now()));
    TaskError {
        code: format!("http_{}", status.as_u16()),
        message: format!("the service answered {status}"),
        details: answer.into_value(keep_headers),
        retryable,
        retry_after_ms,
    }
}

/// How long a `Retry-After` asks to wait: seconds, or until a date.
fn retry_after_ms(text: &str, now: SystemTime) -> Option<i64> {
    let pause = match text.trim().parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).ok()?,
    };
    i64::try_from(pause.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_says_when_to_come_back_in_seconds_or_by_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        let read = |text: &str| retry_after_ms(text, now);

        assert_eq!(read("120"), Some(120_000));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(77_000));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), None);
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
