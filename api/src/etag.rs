//! Entity tags (RFC 9110): what a client has already is not sent again.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The tag of an answer.
pub(crate) fn of(version: &impl ToString) -> String {
    format!("\"{}\"", version.to_string())
}

/// The answer under its tag, or that nothing has changed since the client has seen it.
pub(crate) fn answer(
    request: &HeaderMap,
    tag: &str,
    answer: impl FnOnce() -> Response,
) -> Response {
    let mut response =
        if is_known(request, tag) { StatusCode::NOT_MODIFIED.into_response() } else { answer() };
    set(&mut response, tag);
    response
}

pub(crate) fn set(response: &mut Response, tag: &str) {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let known = request.get_all(header::IF_NONE_MATCH).iter();
    known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|known| known.trim())
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_alone_in_a_list_weak_or_by_a_star() {
        let known = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            is_known(&headers, &of(&7))
        };

        for value in ["\"7\"", "\"6\", \"7\"", "W/\"7\"", "*"] {
            assert!(known(value), "{value}");
        }
        for value in ["7", "\"77\"", "\"6\",\"8\"", ""] {
            assert!(!known(value), "{value}");
        }
        assert!(!is_known(&HeaderMap::new(), "\"7\""));
    }
}
