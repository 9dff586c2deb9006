//! Which partitions a worker should take, and which it should give back.

use std::collections::BTreeSet;

/// What a worker knows about who owns what.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// How many partitions there are.
    pub(super) partitions: u16,
    /// Which this worker owns, those that it is about to give back not included.
    pub(super) own: &'a BTreeSet<u16>,
    /// Which it still has to let go of.
    pub(super) leaving: &'a BTreeSet<u16>,
    /// Whose leases others hold.
    pub(super) others: &'a BTreeSet<u16>,
    /// How many workers there are, this one included.
    pub(super) workers: usize,
    /// A number of this worker's own, so that not all begin at the same partition.
    pub(super) salt: u64,
}

/// What to do about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Free partitions to be taken, in this order.
    pub(super) take: Vec<u16>,
    /// Own partitions to be handed over.
    pub(super) give_back: Vec<u16>,
}

/// Aims for an equal share, rounded up, so that all shares together cover all partitions.
pub(super) fn plan(view: &View<'_>) -> Plan {
    let partitions = usize::from(view.partitions);
    let share = partitions.div_ceil(view.workers.max(1));
    let surplus = view.own.len().saturating_sub(share);
    let lacking = share.saturating_sub(view.own.len());
    let free = |partition: &u16| {
        !view.own.contains(partition)
            && !view.leaving.contains(partition)
            && !view.others.contains(partition)
    };
    let begin = u16::try_from(view.salt % u64::from(view.partitions.max(1))).unwrap_or_default();
    let order = (begin..view.partitions).chain(0..begin);
    Plan {
        take: order.filter(free).take(lacking).collect(),
        give_back: view.own.iter().rev().take(surplus).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Lets the workers plan in turn until nothing changes, and gives back who owns how many.
    fn settle(owned: &mut BTreeMap<String, BTreeSet<u16>>, partitions: u16) -> Vec<usize> {
        for _ in 0..10 {
            for name in owned.keys().cloned().collect::<Vec<_>>() {
                let others = owned.iter().filter(|(other, _)| **other != name);
                let others = others.flat_map(|(_, own)| own.iter().copied()).collect();
                let own = owned[&name].clone();
                let plan = plan(&View {
                    partitions,
                    own: &own,
                    leaving: &BTreeSet::new(),
                    others: &others,
                    workers: owned.len(),
                    salt: 7,
                });
                let mine = owned.get_mut(&name).unwrap();
                mine.extend(plan.take);
                plan.give_back.iter().for_each(|partition| {
                    mine.remove(partition);
                });
            }
        }
        owned.values().map(BTreeSet::len).collect()
    }

    #[test]
    fn workers_that_come_and_go_end_with_all_partitions_shared() {
        let mut owned = BTreeMap::from([("a".to_owned(), BTreeSet::new())]);
        assert_eq!(settle(&mut owned, 16), [16]);

        owned.insert("b".to_owned(), BTreeSet::new());
        assert_eq!(settle(&mut owned, 16), [8, 8]);

        owned.insert("c".to_owned(), BTreeSet::new());
        assert_eq!(settle(&mut owned, 16), [6, 6, 4]);

        owned.remove("a");
        assert_eq!(settle(&mut owned, 16), [8, 8]);
    }

    /// Workers that look at the leases one after the other, at moments of their own, while others
    /// die, come and stand still: for a seed, always the same run.
    struct Churn {
        random: u64,
        now: u64,
        /// Who holds the lease of a partition, and until when.
        leases: BTreeMap<u16, (usize, u64)>,
        /// What each worker owns, what it lets go of and since when; `None`: it is dead.
        workers: Vec<Option<Share>>,
        moved: u64,
    }

    #[derive(Default)]
    struct Share {
        own: BTreeSet<u16>,
        leaving: BTreeMap<u16, u64>,
    }

    const PARTITIONS: u16 = 16;
    const LEASE: u64 = 50;

    impl Churn {
        fn below(&mut self, bound: u64) -> u64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random % bound
        }

        /// One look of one worker, as `Owner` takes it.
        fn look(&mut self, worker: usize) {
            let now = self.now;
            let alive = self.workers.iter().flatten().count();
            let Some(share) = &mut self.workers[worker] else { return };
            share
                .own
                .retain(|partition| self.leases.get(partition).is_some_and(|at| at.0 == worker));
            let left = share.leaving.extract_if(.., |_, since| *since + 10 < now);
            for (partition, _) in left {
                if self.leases.get(&partition).is_some_and(|(holder, _)| *holder == worker) {
                    self.leases.remove(&partition);
                }
            }
            for partition in share.own.iter().chain(share.leaving.keys()) {
                if let Some((holder, until)) = self.leases.get_mut(partition)
                    && *holder == worker
                {
                    *until = now + LEASE;
                }
            }
            let held = self.leases.iter().filter(|(_, (holder, _))| *holder != worker);
            let others = held.map(|(partition, _)| *partition).collect();
            let plan = plan(&View {
                partitions: PARTITIONS,
                own: &share.own,
                leaving: &share.leaving.keys().copied().collect(),
                others: &others,
                workers: alive,
                salt: u64::try_from(worker).unwrap() * 5,
            });
            self.moved += u64::try_from(plan.give_back.len() + plan.take.len()).unwrap();
            for partition in plan.give_back {
                share.own.remove(&partition);
                share.leaving.insert(partition, now);
            }
            for partition in plan.take {
                assert!(
                    self.leases.insert(partition, (worker, now + LEASE)).is_none(),
                    "{partition} is taken although its lease is held"
                );
                share.own.insert(partition);
            }
        }

        /// A worker comes, under another name: the leases of before are not its own.
        fn come(&mut self, worker: usize) {
            self.leases.values_mut().filter(|at| at.0 == worker).for_each(|at| at.0 = 99);
            self.workers[worker] = Some(Share::default());
        }

        fn pass(&mut self, ticks: u64, noise: bool) {
            for _ in 0..ticks {
                self.now += 1;
                let now = self.now;
                self.leases.retain(|_, (_, until)| *until > now);
                let worker = usize::try_from(self.below(4)).unwrap();
                match self.below(60) {
                    0 if noise => self.workers[worker] = None,
                    1 if noise && self.workers[worker].is_none() => self.come(worker),
                    _ => self.look(worker),
                }
            }
        }
    }

    #[test]
    fn whatever_comes_and_goes_all_partitions_are_shared_soon_after_and_then_stay() {
        for seed in 1..=300 {
            let mut churn = Churn {
                random: seed * 0x9E37_79B9,
                now: 0,
                leases: BTreeMap::new(),
                workers: (0..4).map(|_| Some(Share::default())).collect(),
                moved: 0,
            };
            churn.pass(2_000, true);
            if churn.workers.iter().flatten().count() == 0 {
                churn.come(0);
            }
            churn.pass(400, false);

            let alive: Vec<&Share> = churn.workers.iter().flatten().collect();
            let owned: usize = alive.iter().map(|share| share.own.len()).sum();
            let most = usize::from(PARTITIONS).div_ceil(alive.len());
            assert_eq!(owned, usize::from(PARTITIONS), "seed {seed}");
            assert!(alive.iter().all(|share| share.own.len() <= most), "seed {seed}");

            let moved = churn.moved;
            churn.pass(400, false);
            assert_eq!(churn.moved, moved, "seed {seed}: what is settled moves");
        }
    }

    #[test]
    fn more_workers_than_partitions_leave_some_without() {
        let names = ["a", "b", "c"].map(|name| (name.to_owned(), BTreeSet::new()));
        let mut owned = BTreeMap::from(names);

        assert_eq!(settle(&mut owned, 2), [1, 1, 0]);
    }

    #[test]
    fn a_partition_that_is_being_given_back_is_not_taken_again() {
        let leaving = BTreeSet::from([3]);
        let own = BTreeSet::new();
        let others = BTreeSet::new();
        let (partitions, workers, salt) = (4, 1, 2);

        let plan = plan(&View {
            partitions,
            own: &own,
            leaving: &leaving,
            others: &others,
            workers,
            salt,
        });

        assert_eq!(plan, Plan { take: vec![2, 0, 1], give_back: vec![] });
    }
}
