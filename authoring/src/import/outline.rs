//! All states of a machine with their keys and ids here, so that targets can be resolved.

use std::collections::{BTreeMap, BTreeSet};

use pled_engine::template::document::{Member, Node};

use super::name;

/// All states of a machine by their paths of keys.
pub(super) struct Outline {
    /// The path in the machine of each id of the machine.
    ids: BTreeMap<String, Vec<String>>,
    /// The key and the id that each has here.
    states: BTreeMap<Vec<String>, Place>,
    pub(super) root_id: String,
}

/// What a state is called here.
pub(super) struct Place {
    pub(super) key: String,
    pub(super) id: String,
}

impl Outline {
    pub(super) fn of(root: &Node) -> Self {
        let written = root.get("id").and_then(Node::as_str);
        let machine_id = written.map_or("(machine)", |id| &**id);
        let mut root_id = name::key(machine_id);
        if written.is_none() {
            "machine".clone_into(&mut root_id);
        }
        let mut outline = Self { ids: BTreeMap::new(), states: BTreeMap::new(), root_id };
        outline.ids.insert(machine_id.to_owned(), Vec::new());
        let id = outline.root_id.clone();
        outline.states.insert(Vec::new(), Place { key: id.clone(), id: id.clone() });
        outline.add(root, &[], &mut vec![machine_id.to_owned()], &id);
        outline
    }

    fn add(&mut self, node: &Node, path: &[String], names: &mut Vec<String>, here: &str) {
        let states = node.get("states").and_then(Node::members).unwrap_or_default();
        let mut taken = BTreeSet::new();
        for Member { key, value, .. } in states {
            let mut path = path.to_vec();
            path.push(key.to_string());
            names.push(key.to_string());
            let mut own = name::key(key);
            while !taken.insert(own.clone()) {
                own.push('_');
            }
            let below = format!("{here}.{own}");
            let written = value.get("id").and_then(Node::as_str);
            let theirs = written.map_or_else(|| names.join("."), |id| id.to_string());
            let id = written.map_or_else(|| below.clone(), |id| name::id(id));
            self.ids.insert(theirs, path.clone());
            self.states.insert(path.clone(), Place { key: own, id });
            self.add(value, &path, names, &below);
            names.pop();
        }
    }

    pub(super) fn place(&self, path: &[String]) -> Option<&Place> {
        self.states.get(path)
    }

    /// The key here of the direct child `key` of the state at `path`.
    pub(super) fn child(&self, path: &[String], key: &str) -> Option<&str> {
        let path: Vec<String> = path.iter().cloned().chain([key.to_owned()]).collect();
        self.place(&path).map(|place| &*place.key)
    }

    /// How the target `text` of a transition of the state at `path` is written here.
    pub(super) fn target(&self, path: &[String], text: &str) -> Option<String> {
        if let Some(rest) = text.strip_prefix('#') {
            return self.by_id(rest).map(|place| format!("#{}", place.id));
        }
        if let Some(rest) = text.strip_prefix('.') {
            let keys: Vec<&str> = rest.split('.').collect();
            let ours: Option<Vec<&str>> = (1..=keys.len())
                .map(|count| {
                    let inner = keys.iter().take(count).map(|key| (*key).to_owned());
                    let path: Vec<String> = path.iter().cloned().chain(inner).collect();
                    self.place(&path).map(|place| &*place.key)
                })
                .collect();
            return ours.map(|keys| format!(".{}", keys.join(".")));
        }
        let (_, parent) = path.split_last()?;
        let inner: Vec<String> = text.split('.').map(str::to_owned).collect();
        let at: Vec<String> = parent.iter().cloned().chain(inner.iter().cloned()).collect();
        let place = self.place(&at)?;
        Some(if inner.len() == 1 { place.key.clone() } else { format!("#{}", place.id) })
    }

    /// The state of an id, or of an id with keys behind it.
    fn by_id(&self, text: &str) -> Option<&Place> {
        if let Some(path) = self.ids.get(text) {
            return self.place(path);
        }
        text.rmatch_indices('.').find_map(|(dot, _)| {
            let path = self.ids.get(&text[..dot])?;
            let inner = text[dot + 1..].split('.').map(str::to_owned);
            let path: Vec<String> = path.iter().cloned().chain(inner).collect();
            self.place(&path)
        })
    }
}
