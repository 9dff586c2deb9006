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
