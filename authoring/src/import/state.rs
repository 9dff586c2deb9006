//! States and transitions.

use pled_engine::template::document::{Kind, Member, Node};

use super::json::Json;
use super::{Importer, InvalidMachine, NeedKind, name};

/// Members in order.
type Members = Vec<(String, Json)>;

impl Importer<'_> {
    pub(super) fn root(&mut self, root: &Node) -> Result<Json, InvalidMachine> {
        let id = self.outline.root_id.clone();
        let text = |text: &str| Json::text(text);
        let mut members: Members = vec![
            ("pled".to_owned(), text("1.0")),
            ("id".to_owned(), text(&id)),
            ("version".to_owned(), Json::Plain("1".to_owned())),
            ("logic".to_owned(), text("pled-logic-1")),
        ];
        if let Some(written) = root.get("id").and_then(Node::as_str).filter(|it| ***it != *id) {
            let message = format!("the id {written:?} is {id:?} here");
            self.at("id", "id", |this| this.note(message));
        }
        let context = match root.get("context") {
            None => None,
            Some(node) if node.members().is_some() => Some(Json::of(node)),
            Some(_) => {
                let message = "the context is computed: begin with values, and take the input in \
                               `entry`";
                self.at("context", "context", |this| this.note(message));
                Some(Json::Object(Vec::new()))
            }
        };
        members.extend(context.map(|context| ("context".to_owned(), context)));
        let place = members.len();
        self.node(root, &[], &mut members)?;
        if !self.delays.is_empty() {
            let delays = std::mem::take(&mut self.delays);
            let delays = delays.into_iter().map(|(theirs, ours)| {
                self.at(&theirs, "delays", |this| {
                    this.place.push(ours.clone());
                    this.need(NeedKind::Delay, &theirs);
                    this.place.pop();
                });
                // A delay is no text, so this is refused.
                (ours, Json::text(&format!("TODO:{theirs}")))
            });
            let delays = Json::Object(delays.collect());
            members.insert(place, ("delays".to_owned(), delays));
        }
        Ok(Json::Object(members))
    }

    fn node(
        &mut self,
        node: &Node,
        path: &[String],
        members: &mut Members,
    ) -> Result<(), InvalidMachine> {
        let is_root = path.is_empty();
        for Member { key, value, .. } in node.members().unwrap_or_default() {
            let read = self.at(key, key, |this| match &**key {
                "id" | "context" if is_root => Ok(None),
                "id" => Ok(this.outline.place(path).map(|place| Json::text(&place.id))),
                "type" => Ok(match value.as_str().map(|text| &**text) {
                    Some("atomic" | "compound") => None,
                    _ => Some(Json::of(value)),
                }),
                "initial" => this.initial(value, path).map(Some),
                "states" => this.states(value, path).map(Some),
                "entry" | "exit" => Ok(Some(this.actions(value))),
                "on" => Ok(this.on(value, path)),
                "always" | "onDone" => Ok(Some(this.transitions(value, path))),
                "after" => Ok(Some(this.after(value, path))),
                "invoke" => Ok(Some(this.invokes(value, path))),
                "history" => Ok(match &value.kind {
                    Kind::Bool(false) => None,
                    Kind::Bool(true) => Some(Json::text("shallow")),
                    Kind::Null
                    | Kind::Number(_)
                    | Kind::String(_)
                    | Kind::Array(_)
                    | Kind::Object(_) => Some(Json::of(value)),
                }),
                "target" => Ok(Some(this.target(value, path))),
                "output" => Ok(Some(this.value(value))),
                "description" | "tags" | "meta" => Ok(Some(Json::of(value))),
                _ => {
                    this.note(format!("`{key}` has no meaning in a template and is left out"));
                    Ok(None)
                }
            })?;
            members.extend(read.map(|read| (key.to_string(), read)));
        }
        Ok(())
    }

    fn initial(&mut self, node: &Node, path: &[String]) -> Result<Json, InvalidMachine> {
        if let Some(target) = node.get("target") {
            let target = match target.elements() {
                Some([only]) => only,
                _ => target,
            };
            let target = self.at("target", "target", |this| this.initial_key(target, path))?;
            let actions = node
                .get("actions")
                .map(|actions| self.at("actions", "actions", |this| this.actions(actions)));
            let members = [("target", Some(target)), ("actions", actions)];
            let members = members.into_iter().filter_map(|(key, it)| Some((key.to_owned(), it?)));
            return Ok(Json::Object(members.collect()));
        }
        self.initial_key(node, path)
    }

    fn initial_key(&mut self, node: &Node, path: &[String]) -> Result<Json, InvalidMachine> {
        let text = node.as_str().ok_or_else(|| self.error("`initial` is a state's key"))?;
        let key = text.strip_prefix('.').unwrap_or(text);
        match self.outline.child(path, key) {
            Some(key) => Ok(Json::text(key)),
            None => Err(self.error(&format!(
                "`initial` {text:?} is not the key of a direct child: let each state on the way \
                 have an `initial` of its own"
            ))),
        }
    }

    fn states(&mut self, node: &Node, path: &[String]) -> Result<Json, InvalidMachine> {
        let members = node.members().ok_or_else(|| self.error("`states` is an object"))?;
        let mut states = Members::with_capacity(members.len());
        for Member { key, value, .. } in members {
            let inner: Vec<String> = path.iter().cloned().chain([key.to_string()]).collect();
            let own = self.outline.child(path, key).unwrap_or(key).to_owned();
            let state = self.at(key, &own, |this| {
                if own != **key {
                    this.note(format!("the state {key:?} is {own:?} here"));
                }
                if value.members().is_none() {
                    return Err(this.error("a state is an object"));
                }
                let mut members = Members::new();
                this.node(value, &inner, &mut members)?;
                Ok(Json::Object(members))
            })?;
            states.push((own, state));
        }
        Ok(Json::Object(states))
    }

    fn on(&mut self, node: &Node, path: &[String]) -> Option<Json> {
        let mut on = Members::new();
        for Member { key, value, .. } in node.members().unwrap_or_default() {
            if key.starts_with("xstate.snapshot.") {
                self.at(key, key, |this| this.note("snapshots of actors are not events here"));
                continue;
            }
            let event = name::event(key);
            let transitions = self.at(key, &event, |this| {
                if event != **key {
                    this.note(format!("the event {key:?} is {event:?} here"));
                }
                this.transitions(value, path)
            });
            match on.iter_mut().find(|(other, _)| *other == event) {
                Some((_, before)) => {
                    let both = [before.clone(), transitions];
                    *before = Json::Array(both.into_iter().flat_map(in_array).collect());
                }
                None => on.push((event, transitions)),
            }
        }
        Some(Json::Object(on))
    }

    fn after(&mut self, node: &Node, path: &[String]) -> Json {
        let mut after = Members::new();
        for Member { key, value, .. } in node.members().unwrap_or_default() {
            let delay = self.delay_name(key);
            let transitions = self.at(key, &delay, |this| this.transitions(value, path));
            after.push((delay, transitions));
        }
        Json::Object(after)
    }

    /// A delay as it is written here; one that has a name is needed in `delays`.
    pub(super) fn delay_name(&mut self, text: &str) -> String {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.to_owned();
        }
        let ours = name::key(text);
        self.delays.insert(text.to_owned(), ours.clone());
        ours
    }

    fn transitions(&mut self, node: &Node, path: &[String]) -> Json {
        match node.elements() {
            Some(elements) => Json::Array(
                elements
                    .iter()
                    .enumerate()
                    .map(|(at, element)| self.at(at, at, |this| this.transition(element, path)))
                    .collect(),
            ),
            None => self.transition(node, path),
        }
    }

    fn transition(&mut self, node: &Node, path: &[String]) -> Json {
        let members = match &node.kind {
            Kind::String(_) => return self.target(node, path),
            Kind::Object(members) => members,
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Array(_) => {
                return Json::Object(Vec::new());
            }
        };
        let mut transition = Members::new();
        for Member { key, value, .. } in members {
            let ours = match &**key {
                "cond" => "guard",
                "internal" => "reenter",
                other => other,
            };
            let read = self.at(key, ours, |this| match &**key {
                "target" if matches!(value.kind, Kind::Null) => None,
                "target" => Some(this.target(value, path)),
                "guard" | "cond" => Some(this.guard(value)),
                "actions" => Some(this.actions(value)),
                "internal" => matches!(value.kind, Kind::Bool(false)).then_some(Json::Bool(true)),
                "reenter" | "description" | "tags" | "meta" => Some(Json::of(value)),
                _ => {
                    this.note(format!("`{key}` of a transition is left out"));
                    None
                }
            });
            transition.extend(read.map(|read| (ours.to_owned(), read)));
        }
        Json::Object(transition)
    }

    /// A target, or several; one that leads nowhere stays, and is refused.
    fn target(&mut self, node: &Node, path: &[String]) -> Json {
        match node.elements() {
            Some([only]) => self.target(only, path),
            Some(elements) => {
                Json::Array(elements.iter().map(|element| self.target(element, path)).collect())
            }
            None => {
                let Some(text) = node.as_str() else { return Json::of(node) };
                let Some(target) = self.outline.target(path, text) else {
                    self.note(format!("the target {text:?} leads to no state"));
                    return Json::of(node);
                };
                Json::text(&target)
            }
        }
    }

    /// A guard: by name an expression, else composed of guards.
    fn guard(&mut self, node: &Node) -> Json {
        let name = node.as_str().or_else(|| node.get("type").and_then(Node::as_str));
        let Some(name) = name.map(|name| name.to_string()) else {
            self.need(NeedKind::Guard, "an inline function");
            return Json::object([("TODO:inline", Json::Array(Vec::new()))]);
        };
        let params = node.get("params");
        let field = |key: &str| node.get(key).or_else(|| params.and_then(|it| it.get(key)));
        let inner: &[Node] = field("guards").and_then(Node::elements).unwrap_or_default();
        match name.strip_prefix("xstate.").unwrap_or(&name) {
            word @ ("and" | "or") if !inner.is_empty() => {
                let guards = inner.iter().enumerate();
                let guards = self.at("guards", word, |this| {
                    guards.map(|(at, guard)| this.at(at, at, |this| this.guard(guard))).collect()
                });
                return Json::object([(word, Json::Array(guards))]);
            }
            "not" if !inner.is_empty() || field("guard").is_some() => {
                let guard = inner.first().or_else(|| field("guard"));
                let guard = self.at("guards", "!", |this| {
                    guard.map_or(Json::Null, |guard| this.at(0, 0, |this| this.guard(guard)))
                });
                return Json::object([("!", Json::Array(vec![guard]))]);
            }
            "stateIn" => {
                let state = field("stateId").or_else(|| field("stateValue"));
                if let Some(text) = state.and_then(Node::as_str)
                    && let Some(target) =
                        self.outline.target(&[], &format!("#{}", text.trim_start_matches('#')))
                {
                    return Json::object([("inState", Json::text(target.trim_start_matches('#')))]);
                }
            }
            _ => {}
        }
        if let Some(expression) = self.guards.get(&name)
            && let Ok(expression) = Node::parse(expression)
        {
            return Json::of(&expression);
        }
        self.need(NeedKind::Guard, &name);
        let params = params.map(Json::of).into_iter().collect();
        // There is no such operator, so this is refused.
        Json::Object(vec![(format!("TODO:{name}"), Json::Array(params))])
    }

    fn invokes(&mut self, node: &Node, path: &[String]) -> Json {
        match node.elements() {
            Some(elements) => Json::Array(
                elements
                    .iter()
                    .enumerate()
                    .map(|(at, element)| self.at(at, at, |this| this.invoke(element, path)))
                    .collect(),
            ),
            None => self.invoke(node, path),
        }
    }

    fn invoke(&mut self, node: &Node, path: &[String]) -> Json {
        let mut invoke = Members::new();
        if node.get("src").is_none() {
            self.need(NeedKind::Worker, "an inline actor");
            invoke.push(("src".to_owned(), Json::text("TODO:inline")));
        }
        for Member { key, value, .. } in node.members().unwrap_or_default() {
            let read = self.at(key, key, |this| match &**key {
                "id" => value.as_str().map(|id| Json::text(&name::id(id))),
                "src" => Some(this.source(value)),
                "input" => Some(this.value(value)),
                "onDone" | "onError" => Some(this.transitions(value, path)),
                "meta" => Some(Json::of(value)),
                _ => {
                    this.note(format!("`{key}` of an invocation is left out"));
                    None
                }
            });
            invoke.extend(read.map(|read| (key.to_string(), read)));
        }
        Json::Object(invoke)
    }

    fn source(&mut self, node: &Node) -> Json {
        let text = node.as_str().or_else(|| node.get("type").and_then(Node::as_str));
        match text {
            Some(text) if !text.contains("inline:") => {
                self.need(NeedKind::Worker, text);
                Json::text(&self.action_name(text))
            }
            _ => {
                self.need(NeedKind::Worker, "an inline actor");
                Json::text("TODO:inline")
            }
        }
    }
}

fn in_array(json: Json) -> Vec<Json> {
    if let Json::Array(elements) = json { elements } else { vec![json] }
}
