use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);

/// Returns as soon as `condition` holds, asking every few milliseconds.
///
/// `what` completes the sentence "waited 10 s until ...".
///
/// # Panics
///
/// Where the condition does not hold within `deadline`, also when it does not answer.
pub async fn wait_until<F>(deadline: Duration, what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let began = Instant::now();
    let asking = async {
        while !condition().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(deadline, asking).await.is_err() {
        panic!("waited {:.1?} in vain until {what}", began.elapsed());
    }
}
