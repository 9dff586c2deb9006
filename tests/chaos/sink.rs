//! The outside world of the flows: an HTTP server that writes down each effect by its key, and
//! answers with an error now and then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How often each idempotency key was answered with 200, and how often it was seen.
pub(crate) type Effects = BTreeMap<String, (u32, u32)>;

#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) url: String,
    effects: Arc<Mutex<Effects>>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/invoices", listener.local_addr().unwrap());
        let sink = Self { url, effects: Arc::default() };
        let accepting = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = accepting.clone();
                // A caller that is killed half-way is what this is for.
                tokio::spawn(async move { drop(sink.answer(stream).await) });
            }
        });
        sink
    }

    pub(crate) fn effects(&self) -> Effects {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut key, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "idempotency-key" => value.trim().clone_into(&mut key),
                "content-length" => length = value.trim().parse().unwrap_or_default(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let status = self.note(key);
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).await
    }

    /// The first call of one key in sixteen fails.
    fn note(&self, key: String) -> &'static str {
        let fails = key.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let mut effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, seen) = effects.entry(key).or_default();
        *seen += 1;
        if fails.is_multiple_of(16) && *seen == 1 {
            return "503 Service Unavailable";
        }
        *done += 1;
        "200 OK"
    }
}
