//! The built-in action `http` against a listener of its own.

use std::sync::{Arc, Mutex};

use pled_engine::value::Value;
use pled_workers::action::builtin::{Http, HttpConfig, Reach};
use pled_workers::action::{Handler, Task, TaskError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every connection with `response`, once, and keeps what was asked.
struct Service {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn serve(response: &str) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (response, kept) = (response.to_owned(), asked.clone());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let read = socket.read(&mut buffer).await.unwrap_or(0);
                request.extend_from_slice(&buffer[..read]);
                if read == 0 || is_whole(&request) {
                    break;
                }
            }
            kept.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
            if !response.is_empty() {
                let _ = socket.write_all(response.as_bytes()).await;
            } else {
                // Never answers, and holds the connection.
                let _ = socket.read(&mut buffer).await;
            }
        }
    });
    Service { url, asked }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

impl Service {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

async fn call(http: &Http, input: String) -> Result<Value, TaskError> {
    let task = Task {
        key: "order-42/7/0".to_owned(),
        attempt: 1,
        execution: "order-42".parse().unwrap(),
        template: "order@3".parse().unwrap(),
        action: "http".to_owned(),
        input: Value::parse(input.as_bytes()).unwrap(),
        meta: Value::Null,
        deadline: None,
        start_to_close_ms: None,
        traceparent: None,
    };
    http.handle(task).await
}

fn unguarded() -> Http {
    Http::new(HttpConfig { reach: Reach::everywhere(), ..HttpConfig::default() }).unwrap()
}

#[tokio::test]
async fn a_post_carries_the_idempotency_key_and_brings_the_json_back() {
    let ok = response("201 Created", "content-type: application/json\r\n", r#"{"id":7}"#);
    let service = serve(&ok).await;

    let input = format!(
        r#"{{"url":"{}/charges?x=1","json":{{"b":1,"a":2}},"headers":{{"X-Tenant":"t1"}}}}"#,
        service.url
    );
    let result = call(&unguarded(), input).await.unwrap();

    assert_eq!(result.get("status"), Some(&Value::Int(201)));
    assert_eq!(result.get("body").unwrap().get("id"), Some(&Value::Int(7)));
    let asked = service.asked()[0].to_ascii_lowercase();
    assert!(asked.starts_with("post /charges?x=1 http/1.1"), "{asked}");
    for expected in ["idempotency-key: order-42/7/0", "x-tenant: t1", r#"{"a":2,"b":1}"#] {
        assert!(asked.contains(expected), "{expected} is missing in {asked}");
    }
}

#[tokio::test]
async fn the_status_decides_whether_another_attempt_may_help() {
    for (status, headers, code, retryable) in [
        ("503 Service Unavailable", "retry-after: 3\r\n", "http_503", true),
        ("429 Too Many Requests", "", "http_429", true),
        ("408 Request Timeout", "", "http_408", true),
        ("404 Not Found", "", "http_404", false),
        ("302 Found", "location: http://127.0.0.1:1/\r\n", "http_302", false),
    ] {
        let service = serve(&response(status, headers, "why")).await;

        let input = format!(r#"{{"url":"{}"}}"#, service.url);
        let failed = call(&unguarded(), input).await.unwrap_err();

        assert_eq!((failed.code.as_str(), failed.retryable), (code, retryable), "{status}");
        assert_eq!(failed.details.get("body").and_then(Value::as_str), Some("why"));
        if status.starts_with("503") {
            assert_eq!(failed.retry_after_ms, Some(3_000));
        }
    }
}

#[tokio::test]
async fn each_redirect_is_checked_like_the_first_address() {
    let allowed = serve(&response("200 OK", "", "found")).await;
    let to_allowed = format!("location: {}\r\n", allowed.url);
    let near = serve(&response("302 Found", &to_allowed, "")).await;
    let far = serve(&response("302 Found", "location: http://[::1]:9/\r\n", "")).await;
    let reach = Reach { networks: vec!["127.0.0.1".parse().unwrap()] };
    let http = Http::new(HttpConfig { reach, redirects_max: 3, ..HttpConfig::default() }).unwrap();

    let followed = call(&http, format!(r#"{{"url":"{}"}}"#, near.url)).await.unwrap();
    let refused = call(&http, format!(r#"{{"url":"{}"}}"#, far.url)).await.unwrap_err();

    assert_eq!(followed.get("body").and_then(Value::as_str), Some("found"));
    assert_eq!(refused.code, "address_refused");
}

#[tokio::test]
async fn addresses_of_the_own_network_are_refused_by_default() {
    let service = serve(&response("200 OK", "", "secret")).await;
    let port = service.url.rsplit(':').next().unwrap().to_owned();
    let http = Http::new(HttpConfig::default()).unwrap();

    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f000001", "2130706433"]
    {
        let failed =
            call(&http, format!(r#"{{"url":"http://{host}:{port}/"}}"#)).await.unwrap_err();
        assert_eq!((failed.code.as_str(), failed.retryable), ("address_refused", false), "{host}");
    }
    assert_eq!(service.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_response_beyond_the_bound_is_a_failure() {
    let service = serve(&response("200 OK", "", &"x".repeat(2_000))).await;
    let reach = Reach::everywhere();
    let config = HttpConfig { reach, response_bytes_max: 1_000, ..HttpConfig::default() };

    let input = format!(r#"{{"url":"{}"}}"#, service.url);
    let failed = call(&Http::new(config).unwrap(), input).await.unwrap_err();

    assert_eq!((failed.code.as_str(), failed.retryable), ("response_too_large", false));
}

#[tokio::test]
async fn silence_and_a_closed_port_are_failures_that_may_be_retried() {
    let silent = serve("").await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };

    let late = call(&unguarded(), format!(r#"{{"url":"{}","timeout_ms":50}}"#, silent.url)).await;
    let refused = call(&unguarded(), format!(r#"{{"url":"{closed}"}}"#)).await;

    let (late, refused) = (late.unwrap_err(), refused.unwrap_err());
    assert_eq!((late.code.as_str(), late.retryable), ("timeout", true));
    assert_eq!((refused.code.as_str(), refused.retryable), ("connect", true));
}

#[tokio::test]
async fn an_input_that_is_no_call_says_what_is_wrong() {
    let http = unguarded();

    for (input, told) in [
        (r#"{"url":"ftp://example.com/"}"#, "only http and https"),
        (r#"{"url":"nowhere"}"#, "relative URL"),
        (r#"{"url":"http://example.com/","headers":{"a":"b\r\nc: d"}}"#, "line break"),
        (r#"{"url":"http://example.com/","json":1,"body":"x"}"#, "both json and body"),
        (r#"{"uri":"http://example.com/"}"#, "unknown field `uri`"),
    ] {
        let failed = call(&http, input.to_owned()).await.unwrap_err();
        assert_eq!((failed.code.as_str(), failed.retryable), ("bad_input", false));
        assert!(failed.message.contains(told), "{told:?} is missing in {:?}", failed.message);
    }
}

const HOSTILE: &str = include_str!("../data/hostile-hosts.txt");

/// Every host of the corpus, each with the port of a listener that must hear nothing.
#[tokio::test]
async fn no_spelling_of_an_address_inside_is_called() {
    let service = serve(&response("200 OK", "", "secret")).await;
    let port = service.url.rsplit(':').next().unwrap().to_owned();
    let inside = tokio::net::TcpListener::bind(format!("[::1]:{port}")).await;
    let http = Http::new(HttpConfig::default()).unwrap();
    let hosts: Vec<_> = HOSTILE.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(hosts.len() >= 200, "{}", hosts.len());

    for host in hosts {
        let input = format!(r#"{{"url":"http://{host}:{port}/","timeout_ms":2000}}"#);
        let failed = call(&http, input).await.unwrap_err();
        // What no resolver knows, and what is no URL, is not called either.
        let unknown = host.contains("localhost") && failed.code == "connect";
        let no_url = failed.code == "bad_input";
        assert!(failed.code == "address_refused" || unknown || no_url, "{host}: {failed}");
        assert!(no_url || unknown || !failed.retryable, "{host}: {failed}");
    }

    assert_eq!(service.asked(), Vec::<String>::new());
    if let Ok(inside) = inside {
        let heard =
            tokio::time::timeout(std::time::Duration::from_millis(1), inside.accept()).await;
        assert!(heard.is_err());
    }
}

#[tokio::test]
async fn a_redirect_to_any_of_them_is_not_followed() {
    let secret = serve(&response("200 OK", "", "secret")).await;
    let port = secret.url.rsplit(':').next().unwrap().to_owned();
    // Only the first listener's network is allowed, and all hosts of the corpus lie outside of it
    // but for its own address.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let near = format!("http://{}", listener.local_addr().unwrap());
    let hosts: Vec<_> = HOSTILE
        .lines()
        .filter(|line| line.is_ascii() && !line.starts_with('#') && !is_near(line))
        .collect();
    let answers: Vec<_> = hosts
        .iter()
        .map(|host| response("302 Found", &format!("location: http://{host}:{port}/\r\n"), ""))
        .collect();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    let reach = Reach { networks: vec!["127.0.0.2".parse().unwrap()] };
    let http = Http::new(HttpConfig { reach, redirects_max: 3, ..HttpConfig::default() }).unwrap();

    for host in hosts {
        let failed = call(&http, format!(r#"{{"url":"{near}"}}"#)).await.unwrap_err();
        // A location that is no URL is no redirect.
        let refused = ["address_refused", "connect", "http", "http_302"];
        assert!(refused.contains(&failed.code.as_str()), "{host}: {failed}");
    }

    assert_eq!(secret.asked(), Vec::<String>::new());
}

/// Whether it is a spelling of 127.0.0.2.
fn is_near(host: &str) -> bool {
    let url: reqwest::Url = match format!("http://{host}/").parse() {
        Ok(url) => url,
        Err(_) => return false,
    };
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.parse().is_ok_and(|address: std::net::IpAddr| {
        address.to_canonical() == std::net::IpAddr::from([127, 0, 0, 2])
    })
}

#[tokio::test]
async fn the_input_says_after_which_failures_another_attempt_may_help() {
    let conflict = serve(&response("409 Conflict", "retry-after: 7\r\n", "")).await;
    let away = serve(&response("503 Service Unavailable", "", "")).await;

    let input = |url: &str| format!(r#"{{"url":"{url}","retry_on":[409]}}"#);
    let conflict = call(&unguarded(), input(&conflict.url)).await.unwrap_err();
    let away = call(&unguarded(), input(&away.url)).await.unwrap_err();

    assert_eq!((conflict.retryable, conflict.retry_after_ms), (true, Some(7_000)));
    assert!(!away.retryable);
}
