//! `Prefer: wait=n` (RFC 7240).

use std::time::Duration;

use axum::http::HeaderMap;

use crate::WAIT_MAX;

/// How long the client wants to wait for the outcome; `wait` without a number is 10 seconds, and
/// more than [`WAIT_MAX`] is that. `None`: it does not wait.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default().trim();
        let (name, value) = preference.split_once('=').unwrap_or((preference, "10"));
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let seconds = value.trim().trim_matches('"').parse().ok()?;
        Some(Duration::from_secs(seconds).min(WAIT_MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", value.parse().unwrap());
        wait(&headers)
    }

    #[test]
    fn a_wait_is_found_among_other_preferences_and_bounded() {
        assert_eq!(of("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(of("respond-async, Wait = \"7\""), Some(Duration::from_secs(7)));
        assert_eq!(of("wait"), Some(Duration::from_secs(10)));
        assert_eq!(of("wait=86400"), Some(WAIT_MAX));
        assert_eq!(of("respond-async"), None);
        assert_eq!(of("wait=soon"), None);
    }
}
