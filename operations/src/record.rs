//! What PLED's streams hold, as lines of JSON: the form of an export, and what a verification
//! reads.
//!
//! The order matters, for a system may go on while it is read. Positions come first: what they say
//! is done was done before anything else was read. The journal comes last: whatever was handed out
//! or taken before has its entry in it.

use std::collections::BTreeMap;
use std::io::BufRead;

use pled_streams::events::Stored;
use pled_streams::subject::STREAMS;
use pled_streams::{HeaderMap, StreamKind};
use serde::{Deserialize, Serialize};

/// The version of the format, in the first line.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug)]
pub enum Record {
    /// The first line.
    Header(Header),
    /// A message of a stream or bucket, as it is stored.
    Message(StreamKind, Stored),
    /// The last line: without it the export is cut.
    End {
        /// How many messages there were.
        messages: u64,
    },
}

/// What the first line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub pled_export: u32,
    /// The prefix of names.
    pub prefix: String,
    /// How many partitions there are.
    pub partitions: u16,
    /// The id of the installation.
    pub incarnation: String,
    /// Where the streams were when the reading began, after the positions were read.
    pub streams: BTreeMap<String, Place>,
}

/// Where a stream is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its generation.
    pub generation: u64,
    /// Its first sequence.
    pub first: u64,
    /// Its last sequence.
    pub last: u64,
}

/// A message in JSON.
#[derive(Serialize, Deserialize)]
struct Line {
    stream: String,
    seq: u64,
    time: i64,
    subject: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// Where the payload is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

/// The last line in JSON.
#[derive(Serialize, Deserialize)]
struct EndLine {
    end: u64,
}

/// A line is none of an export.
#[derive(Debug, thiserror::Error)]
pub enum InvalidExport {
    /// It cannot be read.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It was written by a later program.
    #[error("an export of format {found}; this program reads format {FORMAT}")]
    Format {
        /// What it says.
        found: u32,
    },
    /// The file could not be read.
    #[error("reading the export: {0}")]
    Io(#[from] std::io::Error),
}

impl Record {
    /// The line, without its end.
    ///
    /// # Errors
    /// Never for what was read from a stream.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Header(header) => serde_json::to_string(header),
            Self::End { messages } => serde_json::to_string(&EndLine { end: *messages }),
            Self::Message(kind, stored) => serde_json::to_string(&line_of(*kind, stored)),
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub fn from_line(line: &str) -> Result<Self, String> {
        if line.starts_with("{\"pled_export\"") {
            return serde_json::from_str(line).map(Self::Header).map_err(|e| e.to_string());
        }
        if line.starts_with("{\"end\"") {
            let end: EndLine = serde_json::from_str(line).map_err(|e| e.to_string())?;
            return Ok(Self::End { messages: end.end });
        }
        let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
        stored_of(line)
    }
}

fn line_of(kind: StreamKind, stored: &Stored) -> Line {
    let headers = stored.headers.iter().flat_map(HeaderMap::iter).map(|(name, values)| {
        let name: &str = name.as_ref();
        (name.to_owned(), values.iter().map(|value| value.as_str().to_owned()).collect())
    });
    let text = std::str::from_utf8(&stored.payload).ok().map(str::to_owned);
    let hex = || stored.payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Line {
        stream: kind.word().to_owned(),
        seq: stored.stream_seq,
        time: stored.time,
        subject: stored.subject.clone(),
        headers: headers.collect(),
        payload_hex: text.is_none().then(hex),
        payload: text,
    }
}

fn stored_of(line: Line) -> Result<Record, String> {
    let kind = STREAMS
        .into_iter()
        .find(|kind| kind.word() == line.stream)
        .ok_or_else(|| format!("{:?} is no stream", line.stream))?;
    let mut headers = HeaderMap::new();
    for (name, values) in &line.headers {
        for value in values {
            headers.append(name.as_str(), value.as_str());
        }
    }
    let payload = match (line.payload, line.payload_hex) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(hex)) => bytes_of(&hex).ok_or("payload_hex is not hexadecimal")?,
        (None, None) => Vec::new(),
    };
    let headers = (!headers.is_empty()).then_some(headers);
    let stored = Stored {
        subject: line.subject,
        headers,
        payload: payload.into(),
        stream_seq: line.seq,
        time: line.time,
        pending: 0,
    };
    Ok(Record::Message(kind, stored))
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The records of an export, line by line.
///
/// # Errors
/// Each item, with what is wrong with its line; nothing follows.
pub fn read(source: impl BufRead) -> impl Iterator<Item = Result<Record, InvalidExport>> {
    let mut failed = false;
    source.lines().zip(1..).map_while(move |(line, number)| {
        if failed {
            return None;
        }
        let record = line.map_err(InvalidExport::Io).and_then(|line| {
            Record::from_line(&line).map_err(|reason| InvalidExport::Line { line: number, reason })
        });
        let record = match record {
            Ok(Record::Header(header)) if header.pled_export != FORMAT => {
                Err(InvalidExport::Format { found: header.pled_export })
            }
            record => record,
        };
        failed = record.is_err();
        Some(record)
    })
}
