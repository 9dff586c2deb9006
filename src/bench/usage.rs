//! What a bench cost the machine: CPU and memory of each process, from `/proc`. Nothing where there
//! is no `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// Ticks of `/proc` for each second: `USER_HZ`, which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time so far, in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    /// By the name of the process; servers of one name are added up.
    by_process: BTreeMap<String, f64>,
    /// Of the whole machine.
    busy: f64,
    /// What the machine's host gave to others.
    stolen: f64,
}

impl Cpu {
    /// What these processes used until now.
    pub(crate) fn now(processes: &[(String, u32)]) -> Self {
        let mut by_process = BTreeMap::new();
        for (name, pid) in processes {
            *by_process.entry(name.clone()).or_default() += of_process(*pid).unwrap_or_default();
        }
        let (busy, stolen) = of_machine().unwrap_or_default();
        Self { by_process, busy, stolen }
    }

    /// What was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let used = |(name, seconds): (&String, &f64)| {
            (name.clone(), seconds - before.by_process.get(name).copied().unwrap_or_default())
        };
        Self {
            by_process: self.by_process.iter().map(used).collect(),
            busy: self.busy - before.busy,
            stolen: self.stolen - before.stolen,
        }
    }

    /// Milliseconds of CPU for each of `count`, by process.
    pub(crate) fn ms_each(&self, count: f64) -> BTreeMap<&str, f64> {
        let each = |seconds: f64| (seconds * 1e6 / count.max(1.0)).round() / 1e3;
        self.by_process.iter().map(|(name, seconds)| (name.as_str(), each(*seconds))).collect()
    }

    /// CPU of the machine that none of these processes used, as a number of cores over `seconds`.
    pub(crate) fn other_cores(&self, seconds: f64) -> f64 {
        let ours: f64 = self.by_process.values().sum();
        round((self.busy - ours).max(0.0) / seconds)
    }

    /// As [`Self::other_cores`], what the host gave to others.
    pub(crate) fn stolen_cores(&self, seconds: f64) -> f64 {
        round(self.stolen / seconds)
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// User and system time of a process.
fn of_process(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    ticks_of_process(&stat).map(|ticks| ticks / TICKS_PER_SECOND)
}

/// The name stands in brackets and may hold anything, so what follows is counted from its end.
fn ticks_of_process(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn of_machine() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    ticks_of_machine(stat.lines().next()?)
        .map(|(busy, stolen)| (busy / TICKS_PER_SECOND, stolen / TICKS_PER_SECOND))
}

/// `cpu user nice system idle iowait irq softirq steal …`: what was worked, and what was stolen.
fn ticks_of_machine(line: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> =
        line.split_ascii_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq, steal))
}

/// Memory of a process that is in RAM, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    kib_after(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

fn kib_after(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes that a process had written to disk until now.
pub(crate) fn written_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 5 6 7";

        assert_eq!(ticks_of_process(stat), Some(200.0));
    }

    #[test]
    fn idle_and_waiting_is_not_busy() {
        assert_eq!(ticks_of_machine("cpu  10 1 5 900 40 2 3 7 0 0"), Some((21.0, 7.0)));
        assert_eq!(ticks_of_machine("cpu 1 2"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(kib_after("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12_288));
    }
}
