//! What the name of an action stands for in a deployment: the values of PLED_ACTIONS.

use std::time::Duration;

use pled_engine::value::{Object, Value};
use pled_streams::actions::Limits;
use reqwest::header::HeaderName;
use reqwest::{Method, Url};

use super::builtin::RetryOn;
use super::secret::{SecretName, SecretText};

/// How long a call may take where the binding says nothing, and at most.
const TIMEOUT: Duration = Duration::from_secs(30);
/// See [`TIMEOUT`].
const TIMEOUT_MS_MAX: i64 = 3_600_000;
/// The longest body of a response where the binding says nothing, and at most.
const RESPONSE_BYTES: usize = 256 * 1024;
/// See [`RESPONSE_BYTES`].
const RESPONSE_BYTES_MAX: i64 = 16 * 1024 * 1024;
/// Headers that the call itself makes.
const OWN_HEADERS: [&str; 7] = [
    "connection",
    "content-length",
    "host",
    "idempotency-key",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What an action's name is bound to.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// What is called; `None`: workers of the deployment's own do it, and only limits are set.
    pub target: Option<Target>,
    /// How much of it at a time.
    pub limits: Limits,
}

/// What is called.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// An HTTP service.
    Http(Box<HttpTarget>),
    /// A receiver of webhooks.
    Webhook(Box<WebhookTarget>),
    /// A service that answers on NATS.
    NatsRequest {
        /// Its subject.
        subject: String,
        /// How long its answer is waited for.
        timeout: Duration,
    },
    /// Whoever listens on NATS.
    NatsPublish {
        /// The subject.
        subject: String,
    },
}

/// `{"http": …}`
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTarget {
    /// The method.
    pub method: Method,
    /// Where.
    pub url: UrlTemplate,
    /// Headers, which may name secrets.
    pub headers: Vec<(HeaderName, SecretText)>,
    /// What of the input is the body; `None`: nothing is sent.
    pub body: Option<Pointer>,
    /// How long the call may take.
    pub timeout: Duration,
    /// The failures after which another attempt may help.
    pub retry_on: RetryOn,
    /// What of the response is kept.
    pub response: ResponseTarget,
}

/// What of a response is the result.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseTarget {
    /// Where in `{"status", "headers", "body"}` it stands.
    pub result: Mapped,
    /// Headers that are there for it, beside the usual ones.
    pub headers: Vec<String>,
    /// The longest body.
    pub bytes_max: usize,
}

/// `{"webhook": …}`
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookTarget {
    /// Where.
    pub url: Url,
    /// With what it is signed.
    pub secret: SecretName,
    /// How long the call may take.
    pub timeout: Duration,
}

/// A place in a JSON value (RFC 6901); the empty one is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

/// A result that is made of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// What stands at one.
    At(Pointer),
    /// An object with a member for each.
    Members(Vec<(String, Pointer)>),
}

/// A URL with `{member}` in its path and query for members of the input. Its host is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    parts: Vec<UrlPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum UrlPart {
    Plain(String),
    Member(String),
}

/// What is wrong with a binding, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", said(.0))]
pub struct InvalidBinding(pub Vec<Fault>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON pointer.
    pub pointer: String,
    /// What.
    pub message: String,
}

fn said(faults: &[Fault]) -> String {
    let lines = faults.iter().map(|fault| {
        let place = if fault.pointer.is_empty() { "/" } else { &fault.pointer };
        format!("{place}: {}", fault.message)
    });
    lines.collect::<Vec<_>>().join("; ")
}

impl Binding {
    /// Reads a binding, and tells all that is wrong with it.
    ///
    /// # Errors
    /// If anything is.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidBinding> {
        let value = Value::parse(json).map_err(|error| {
            InvalidBinding(vec![Fault { pointer: String::new(), message: error.to_string() }])
        })?;
        let mut faults = Vec::new();
        let binding = Fields::of("", &value, &mut faults).map(|fields| read(fields, &mut faults));
        match binding {
            Some(binding) if faults.is_empty() => Ok(binding),
            Some(_) | None => Err(InvalidBinding(faults)),
        }
    }

    /// The secrets that it names.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretName> {
        match &self.target {
            Some(Target::Http(http)) => {
                http.headers.iter().flat_map(|(_, value)| value.names()).collect()
            }
            Some(Target::Webhook(webhook)) => vec![&webhook.secret],
            Some(Target::NatsRequest { .. } | Target::NatsPublish { .. }) | None => Vec::new(),
        }
    }

    /// Headers that look as if they carried a secret in plain text.
    #[must_use]
    pub fn plain_credentials(&self) -> Vec<&str> {
        let Some(Target::Http(http)) = &self.target else { return Vec::new() };
        let is_meant = |name: &str| {
            ["authorization", "api-key", "apikey", "token", "cookie", "secret"]
                .iter()
                .any(|word| name.contains(word))
        };
        let plain = http.headers.iter().filter(|(_, value)| value.names().next().is_none());
        plain.map(|(name, _)| name.as_str()).filter(|name| is_meant(name)).collect()
    }

    /// What it calls, in a few words: `POST https://pay.example/v1/charges`.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.target {
            Some(Target::Http(http)) => format!("{} {}", http.method, http.url),
            Some(Target::Webhook(webhook)) => format!("webhook {}", webhook.url),
            Some(Target::NatsRequest { subject, .. }) => format!("nats request {subject}"),
            Some(Target::NatsPublish { subject }) => format!("nats publish {subject}"),
            None => "own workers".to_owned(),
        }
    }
}

/// The members of an object, with the place where it stands. What was not asked for is unknown.
struct Fields<'v> {
    pointer: String,
    members: &'v Object,
    asked: Vec<&'static str>,
}

impl<'v> Fields<'v> {
    fn of(pointer: &str, value: &'v Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let Some(members) = value.as_object() else {
            let message = format!("this must be an object, not of type {}", value.kind());
            faults.push(Fault { pointer: pointer.to_owned(), message });
            return None;
        };
        Some(Self { pointer: pointer.to_owned(), members, asked: Vec::new() })
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }

    fn get(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.push(name);
        self.members.get(name)
    }

    fn fault(&self, name: &str, message: impl Into<String>, faults: &mut Vec<Fault>) {
        faults.push(Fault { pointer: self.at(name), message: message.into() });
    }

    fn object(&mut self, name: &'static str, faults: &mut Vec<Fault>) -> Option<Self> {
        let value = self.get(name)?;
        Self::of(&self.at(name), value, faults)
    }

    fn text(&mut self, name: &'static str, faults: &mut Vec<Fault>) -> Option<&'v str> {
        let value = self.get(name)?;
        let text = value.as_str();
        if text.is_none() {
            self.fault(
                name,
                format!("this must be a string, not of type {}", value.kind()),
                faults,
            );
        }
        text
    }

    /// As [`Self::text`], parsed; what is wrong with it is told.
    fn parsed<T>(
        &mut self,
        name: &'static str,
        faults: &mut Vec<Fault>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name, faults)?;
        parse(text).map_err(|message| self.fault(name, message, faults)).ok()
    }

    fn needed(&self, name: &str, faults: &mut Vec<Fault>) {
        if self.members.get(name).is_none() {
            self.fault(name, "this is missing", faults);
        }
    }

    fn count(&mut self, name: &'static str, most: i64, faults: &mut Vec<Fault>) -> Option<i64> {
        let value = self.get(name)?;
        let count = value.as_int().filter(|count| (1..=most).contains(count));
        if count.is_none() {
            self.fault(name, format!("this must be a whole number from 1 to {most}"), faults);
        }
        count
    }

    fn timeout(&mut self, faults: &mut Vec<Fault>) -> Duration {
        let ms = self.count("timeout_ms", TIMEOUT_MS_MAX, faults);
        ms.and_then(|ms| u64::try_from(ms).ok()).map_or(TIMEOUT, Duration::from_millis)
    }

    /// Tells of every member that nobody asked for.
    fn end(self, faults: &mut Vec<Fault>) {
        for (name, _) in self.members {
            if !self.asked.contains(&&**name) {
                let near =
                    pled_engine::template::suggest::closest(name, self.asked.iter().copied());
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let known = self.asked.join("`, `");
                self.fault(name, format!("this is none of `{known}`{hint}"), faults);
            }
        }
    }
}

fn read(mut fields: Fields<'_>, faults: &mut Vec<Fault>) -> Binding {
    let mut targets = Vec::new();
    if let Some(http) = fields.object("http", faults) {
        targets.extend(http_target(http, faults).map(|http| Target::Http(Box::new(http))));
    }
    if let Some(webhook) = fields.object("webhook", faults) {
        targets.extend(webhook_target(webhook, faults).map(|hook| Target::Webhook(Box::new(hook))));
    }
    if let Some(nats) = fields.object("nats", faults) {
        targets.extend(nats_target(nats, faults));
    }
    let limits = fields.object("limits", faults).map(|limits| read_limits(limits, faults));
    let kinds = ["http", "webhook", "nats"];
    let given = kinds.iter().filter(|kind| fields.members.get(kind).is_some()).count();
    if given > 1 || fields.members.is_empty() {
        let message = "one of `http`, `webhook` and `nats` says what is called";
        faults.push(Fault { pointer: fields.pointer.clone(), message: message.to_owned() });
    }
    fields.end(faults);
    Binding { target: targets.pop(), limits: limits.unwrap_or_default() }
}

fn read_limits(mut fields: Fields<'_>, faults: &mut Vec<Fault>) -> Limits {
    let concurrency = fields.count("concurrency", 1_000_000, faults);
    fields.end(faults);
    Limits { concurrency: concurrency.and_then(|count| u32::try_from(count).ok()) }
}

fn http_target(mut fields: Fields<'_>, faults: &mut Vec<Fault>) -> Option<HttpTarget> {
    let method = fields.parsed("method", faults, |text| {
        let method = Method::from_bytes(text.as_bytes()).ok();
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        method
            .filter(|method| known.contains(&method.as_str()))
            .ok_or_else(|| format!("{text:?} is none of {}", known.join(", ")))
    });
    let method = method.unwrap_or(Method::POST);
    fields.needed("url", faults);
    let url = fields.parsed("url", faults, UrlTemplate::parse);
    let headers = match fields.object("headers", faults) {
        Some(headers) => read_headers(&headers, faults),
        None => Vec::new(),
    };
    let sends = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
    let body = match fields.get("body") {
        Some(Value::Null) => None,
        Some(_) => fields.parsed("body", faults, Pointer::parse),
        None => sends.then(Pointer::default),
    };
    let timeout = fields.timeout(faults);
    let retry_on =
        fields.get("retry_on").map(RetryOn::read).unwrap_or_else(|| Ok(RetryOn::default()));
    let retry_on = retry_on.unwrap_or_else(|message| {
        fields.fault("retry_on", message, faults);
        RetryOn::default()
    });
    let response = match fields.object("response", faults) {
        Some(response) => read_response(response, faults),
        None => ResponseTarget::default(),
    };
    fields.end(faults);
    Some(HttpTarget { method, url: url?, headers, body, timeout, retry_on, response })
}

fn read_headers(fields: &Fields<'_>, faults: &mut Vec<Fault>) -> Vec<(HeaderName, SecretText)> {
    let mut headers = Vec::new();
    for (name, value) in fields.members {
        let header = HeaderName::from_bytes(name.as_bytes());
        let text = value.as_str().ok_or_else(|| "this must be a string".to_owned());
        let read = header
            .map_err(|_| "this is no name of a header".to_owned())
            .and_then(|header| {
                if OWN_HEADERS.contains(&header.as_str()) {
                    return Err("this header is made by the call itself".to_owned());
                }
                Ok(header)
            })
            .and_then(|header| {
                let text = text?;
                if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                    return Err("a header holds visible ASCII characters only".to_owned());
                }
                Ok((header, SecretText::parse(text)?))
            });
        match read {
            Ok(header) => headers.push(header),
            Err(message) => fields.fault(name, message, faults),
        }
    }
    headers
}

impl Default for ResponseTarget {
    fn default() -> Self {
        let body = Pointer(vec!["body".to_owned()]);
        Self { result: Mapped::At(body), headers: Vec::new(), bytes_max: RESPONSE_BYTES }
    }
}

fn read_response(mut fields: Fields<'_>, faults: &mut Vec<Fault>) -> ResponseTarget {
    let defaults = ResponseTarget::default();
    let result = match fields.get("result") {
        Some(Value::Object(members)) => {
            let mut mapped = Vec::new();
            for (name, at) in members {
                let pointer = at.as_str().ok_or_else(|| "this must be a string".to_owned());
                match pointer.and_then(Pointer::parse) {
                    Ok(pointer) => mapped.push((name.to_string(), pointer)),
                    Err(message) => fields.fault(&format!("result/{name}"), message, faults),
                }
            }
            Mapped::Members(mapped)
        }
        Some(_) => fields
            .parsed("result", faults, Pointer::parse)
            .map_or_else(|| defaults.result.clone(), Mapped::At),
        None => defaults.result.clone(),
    };
    let mut headers = Vec::new();
    if let Some(wanted) = fields.get("headers") {
        let names = wanted.as_array().map(|names| names.iter().map(Value::as_str));
        match names.and_then(|names| names.collect::<Option<Vec<_>>>()) {
            Some(names) => headers.extend(names.iter().map(|name| name.to_ascii_lowercase())),
            None => fields.fault("headers", "this must be an array of names", faults),
        }
    }
    let bytes_max = fields.count("bytes_max", RESPONSE_BYTES_MAX, faults);
    let bytes_max = bytes_max.and_then(|bytes| usize::try_from(bytes).ok());
    fields.end(faults);
    ResponseTarget { result, headers, bytes_max: bytes_max.unwrap_or(defaults.bytes_max) }
}

fn webhook_target(mut fields: Fields<'_>, faults: &mut Vec<Fault>) -> Option<WebhookTarget> {
    fields.needed("url", faults);
    let url = fields.parsed("url", faults, check_url);
    fields.needed("secret", faults);
    let secret = fields.parsed("secret", faults, |name| {
        let secret = SecretName::parse(name);
        secret.ok_or_else(|| "the name of a secret is of capitals, digits and `_`".to_owned())
    });
    let timeout = fields.timeout(faults);
    fields.end(faults);
    Some(WebhookTarget { url: url?, secret: secret?, timeout })
}

fn nats_target(mut fields: Fields<'_>, faults: &mut Vec<Fault>) -> Option<Target> {
    let request = fields.parsed("request", faults, check_subject);
    let publish = fields.parsed("publish", faults, check_subject);
    let timeout = fields.timeout(faults);
    let given = ["request", "publish"].map(|name| fields.members.get(name).is_some());
    if given[0] == given[1] {
        let message = "one of `request` and `publish` names the subject".to_owned();
        faults.push(Fault { pointer: fields.pointer.clone(), message });
    }
    if given[1] && fields.members.get("timeout_ms").is_some() {
        fields.fault("timeout_ms", "nothing is waited for", faults);
    }
    fields.end(faults);
    match (request, publish) {
        (Some(subject), _) => Some(Target::NatsRequest { subject, timeout }),
        (None, Some(subject)) => Some(Target::NatsPublish { subject }),
        (None, None) => None,
    }
}

/// The shape of a subject; whose it is, is seen when it is used.
fn check_subject(text: &str) -> Result<String, String> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    if text.contains(['*', '>']) || !text.split('.').all(word) {
        return Err(format!("{text:?} is no subject: words with dots between, without wildcards"));
    }
    Ok(text.to_owned())
}

/// A URL that may be called: http or https, without credentials and fragment.
fn check_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{}: only http and https are called", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong into a URL: name a secret in a header".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a fragment is not sent: leave it out".to_owned());
    }
    Ok(url)
}

impl Pointer {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("{text:?} is no JSON pointer: it begins with `/`"));
        };
        let word = |word: &str| word.replace("~1", "/").replace("~0", "~");
        Ok(Self(rest.split('/').map(word).collect()))
    }

    /// What stands there; `null` where nothing does.
    #[must_use]
    pub fn of(&self, value: &Value) -> Value {
        let mut at = value;
        for word in &self.0 {
            let next = match at {
                Value::Object(members) => members.get(word),
                Value::Array(items) => word.parse().ok().and_then(|index: usize| items.get(index)),
                Value::Null
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::String(_) => None,
            };
            let Some(next) = next else { return Value::Null };
            at = next;
        }
        at.clone()
    }
}

impl Mapped {
    /// The result that a response makes.
    #[must_use]
    pub fn of(&self, response: &Value) -> Value {
        match self {
            Self::At(pointer) => pointer.of(response),
            Self::Members(members) => {
                let members = members.iter().map(|(name, at)| (name.as_str(), at.of(response)));
                members.collect::<Object>().into()
            }
        }
    }
}

impl UrlTemplate {
    /// Reads a URL with `{member}` in it.
    ///
    /// # Errors
    /// If it is none, or names a member before its path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let named = after.split_once('}').filter(|(name, _)| {
                !name.is_empty() && !name.contains(['{', '/', '?', '&']) && !name.contains(' ')
            });
            let Some((name, after)) = named else {
                return Err("`{` begins the name of a member of the input, `{order}`".to_owned());
            };
            parts.push(UrlPart::Plain(before.to_owned()));
            parts.push(UrlPart::Member(name.to_owned()));
            rest = after;
        }
        parts.push(UrlPart::Plain(rest.to_owned()));
        let template = Self { parts };
        let url = check_url(&template.filled_with(|_| Ok("x".to_owned()))?)?;
        let begin = match template.parts.first() {
            Some(UrlPart::Plain(text)) => text.as_str(),
            Some(UrlPart::Member(_)) | None => "",
        };
        // `http://host{x}` would let the input choose the host.
        let fixed = begin.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']));
        if template.parts.len() > 1 && !fixed {
            return Err("members of the input stand in the path or the query only".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the URL has no host".to_owned());
        }
        Ok(template)
    }

    /// The URL for this input.
    ///
    /// # Errors
    /// If the input has no such member, or one that is no text, number or boolean.
    pub fn fill(&self, input: &Value) -> Result<Url, String> {
        let text = self.filled_with(|name| {
            let mut value = input;
            for word in name.split('.') {
                value = value.get(word).unwrap_or(&Value::Null);
            }
            let text = match value {
                Value::String(text) => text.to_string(),
                Value::Int(_) | Value::Float(_) | Value::Bool(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let kind = value.kind();
                    return Err(format!(
                        "the URL needs `{name}` of the input, which is of type {kind}"
                    ));
                }
            };
            // A segment of dots would climb, however it is encoded.
            if text.is_empty() || text.bytes().all(|byte| byte == b'.') {
                return Err(format!("`{name}` of the input, {text:?}, cannot stand in a URL"));
            }
            Ok(percent_encoded(&text))
        })?;
        check_url(&text)
    }

    fn filled_with(
        &self,
        member: impl Fn(&str) -> Result<String, String>,
    ) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                UrlPart::Plain(plain) => text.push_str(plain),
                UrlPart::Member(name) => text.push_str(&member(name)?),
            }
        }
        Ok(text)
    }
}

impl std::fmt::Display for UrlTemplate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            match part {
                UrlPart::Plain(plain) => formatter.write_str(plain)?,
                UrlPart::Member(name) => write!(formatter, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// All but the unreserved characters of RFC 3986.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: &str) -> String {
        Binding::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (json, said) in [
            ("[]", "/: this must be an object"),
            ("{}", "one of `http`, `webhook` and `nats`"),
            ("{", "expected"),
            (
                r#"{"htpp":{}}"#,
                "/htpp: this is none of `http`, `webhook`, `nats`, `limits`; did you mean `http`?",
            ),
            (r#"{"http":{}}"#, "/http/url: this is missing"),
            (r#"{"http":{"url":"nowhere"}}"#, "/http/url: relative URL"),
            (r#"{"http":{"url":"ftp://a.example/"}}"#, "/http/url: ftp: only http and https"),
            (r#"{"http":{"url":"http://me:pw@a.example/"}}"#, "/http/url: credentials"),
            (r#"{"http":{"url":"http://{host}/"}}"#, "/http/url:"),
            (r#"{"http":{"url":"http://a.example{x}/"}}"#, "/http/url: members of the input"),
            (r#"{"http":{"url":"http://a.example/{}"}}"#, "/http/url: `{` begins"),
            (r#"{"http":{"url":"http://a.example/","method":"FETCH"}}"#, "/http/method: \"FETCH\""),
            (r#"{"http":{"url":"http://a.example/","header":{}}}"#, "did you mean `headers`?"),
            (
                r#"{"http":{"url":"http://a.example/","headers":{"a b":"c"}}}"#,
                "/http/headers/a b: this is no name",
            ),
            (
                r#"{"http":{"url":"http://a.example/","headers":{"Host":"c"}}}"#,
                "made by the call itself",
            ),
            (r#"{"http":{"url":"http://a.example/","headers":{"a":"b\nc"}}}"#, "visible ASCII"),
            (
                r#"{"http":{"url":"http://a.example/","headers":{"a":"${KEY}"}}}"#,
                "/http/headers/a: `${`",
            ),
            (
                r#"{"http":{"url":"http://a.example/","timeout_ms":0}}"#,
                "/http/timeout_ms: this must be a whole number from 1",
            ),
            (r#"{"http":{"url":"http://a.example/","retry_on":["4xy"]}}"#, "/http/retry_on:"),
            (
                r#"{"http":{"url":"http://a.example/","body":"input"}}"#,
                "/http/body: \"input\" is no JSON pointer",
            ),
            (
                r#"{"http":{"url":"http://a.example/","response":{"result":{"a":1}}}}"#,
                "/http/response/result~1a: this must be a string",
            ),
            (r#"{"nats":{}}"#, "/nats: one of `request` and `publish`"),
            (r#"{"nats":{"request":"a.*"}}"#, "/nats/request: \"a.*\" is no subject"),
            (r#"{"nats":{"publish":"a","timeout_ms":5}}"#, "nothing is waited for"),
            (r#"{"webhook":{"url":"http://a.example/","secret":"whsec_x"}}"#, "/webhook/secret:"),
            (r#"{"limits":{"concurrency":0}}"#, "/limits/concurrency:"),
            (r#"{"nats":{"request":"a"},"http":{"url":"http://a.example/"}}"#, "one of `http`"),
        ] {
            let all = faults(json);
            assert!(all.contains(said), "{json}: {said:?} is not in {all}");
        }
        let both = faults(r#"{"http":{"url":"x","methd":"GET"},"limits":{"rate":1}}"#);
        assert_eq!(both.matches("; /").count(), 2, "{both}");
    }

    #[test]
    fn a_binding_is_read_whole() {
        let json = r#"{"http":{"method":"PUT","url":"https://a.example/v1/{order.id}?k={kind}",
            "headers":{"Authorization":"Bearer ${secret:TOKEN}","x-api-key":"plain"},
            "timeout_ms":5000,"retry_on":[409,"5xx"],
            "response":{"result":{"id":"/body/id","etag":"/headers/etag"},"bytes_max":1000}},
            "limits":{"concurrency":10}}"#;

        let binding = Binding::parse(json.as_bytes()).unwrap();

        assert_eq!(binding.summary(), "PUT https://a.example/v1/{order.id}?k={kind}");
        assert_eq!(binding.secrets()[0].as_str(), "TOKEN");
        assert_eq!(binding.plain_credentials(), ["x-api-key"]);
        assert_eq!(binding.limits.concurrency, Some(10));
    }

    #[test]
    fn members_of_the_input_stay_where_they_are_put() {
        let url = UrlTemplate::parse("https://a.example/v1/{order.id}/x?k={kind}").unwrap();
        let fill = |input: &str| url.fill(&Value::parse(input.as_bytes()).unwrap());

        assert_eq!(
            fill(r#"{"order":{"id":"a/../b?x#y&z@h:1"},"kind":7}"#).unwrap().as_str(),
            "https://a.example/v1/a%2F..%2Fb%3Fx%23y%26z%40h%3A1/x?k=7"
        );
        for (input, said) in [
            (r#"{"order":{"id":".."},"kind":1}"#, "cannot stand in a URL"),
            (r#"{"order":{"id":""},"kind":1}"#, "cannot stand in a URL"),
            (r#"{"order":{},"kind":1}"#, "needs `order.id`"),
            (r#"{"order":{"id":[1]},"kind":1}"#, "which is of type array"),
        ] {
            let error = fill(input).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_result_is_what_stands_at_its_places() {
        let response = Value::parse(br#"{"body":{"a":[{"b/c":1}]},"status":200}"#).unwrap();
        let at = |pointer: &str| Pointer::parse(pointer).unwrap().of(&response);

        assert_eq!(at(""), response);
        assert_eq!(at("/body/a/0/b~1c"), Value::Int(1));
        assert_eq!(at("/body/a/1"), Value::Null);
        assert!(Pointer::parse("body").is_err());
    }
}
