//! Actions.

use pled_engine::template::document::{Kind, Member, Node};
use pled_engine::template::fields;

use super::json::Json;
use super::{Importer, NeedKind, name};

/// Fields of an event that are not its data.
const TYPE: &str = "type";

impl Importer<'_> {
    /// One action or a list of them.
    pub(super) fn actions(&mut self, node: &Node) -> Json {
        let elements = node.elements().unwrap_or(std::slice::from_ref(node));
        let actions = elements.iter().enumerate();
        Json::Array(
            actions.map(|(at, element)| self.at(at, at, |this| this.action(element))).collect(),
        )
    }

    fn action(&mut self, node: &Node) -> Json {
        let name = node.as_str().or_else(|| node.get(TYPE).and_then(Node::as_str));
        let Some(name) = name.map(|name| name.to_string()) else {
            return self.todo("an inline function", "inline");
        };
        if name.contains("inline:") {
            return self.todo("an inline function", "inline");
        }
        let Some(word) = name.strip_prefix("xstate.") else { return self.custom(&name, node) };
        let own = match word {
            "assign" => self.assign(node),
            "raise" => self.send(node, "raise", None),
            "sendTo" => self.receiver(node).and_then(|to| self.send(node, "send", Some(to))),
            "sendParent" => self.send(node, "send", Some("parent".to_owned())),
            "cancel" => self.one_id(node, "cancel", &["sendId", "id"]),
            "stop" | "stopChild" => self.one_id(node, "stop", &["actorRef", "actorId", "id"]),
            "log" => self.log(node),
            _ => None,
        };
        own.unwrap_or_else(|| self.todo(&name, word))
    }

    /// A place that a person has to fill in: no action may be called that.
    fn todo(&mut self, what: &str, word: &str) -> Json {
        self.need(NeedKind::Action, what);
        Json::object([("type", Json::text(&format!("TODO:{word}")))])
    }

    fn assign(&mut self, node: &Node) -> Option<Json> {
        let sides = field(node, "assignment").or_else(|| node.get("params"))?;
        let members = sides.members()?;
        let sides = self.at("params", "params", |this| {
            let side = |this: &mut Self, Member { key, value, .. }: &Member| {
                (key.to_string(), this.at(key, key, |this| this.value(value)))
            };
            members.iter().map(|member| side(this, member)).collect()
        });
        let sides = Json::Object(sides);
        Some(Json::object([("type", Json::text("assign")), ("params", sides)]))
    }

    fn send(&mut self, node: &Node, action: &str, to: Option<String>) -> Option<Json> {
        let event = field(node, "event")?;
        let name = event.as_str().or_else(|| event.get(TYPE).and_then(Node::as_str))?;
        let mut params = Vec::new();
        params.extend(to.map(|to| ("to".to_owned(), Json::text(&to))));
        params.push(("event".to_owned(), Json::text(&name::event(name))));
        let members = event.members().unwrap_or_default().iter();
        let members = members.filter(|member| &*member.key != TYPE);
        let data: Vec<(String, Json)> = members
            .map(|Member { key, value, .. }| {
                let value = self.at("params", "params", |this| {
                    this.at("event", "data", |this| this.at(key, key, |this| this.value(value)))
                });
                (key.to_string(), value)
            })
            .collect();
        if !data.is_empty() {
            params.push(("data".to_owned(), Json::Object(data)));
        }
        if let Some(delay) = field(node, "delay") {
            match delay.as_str() {
                Some(text) if action == "raise" => {
                    let delay = self.delay_name(text);
                    params.push(("delay".to_owned(), Json::text(&delay)));
                }
                _ => params.push(("delay_ms".to_owned(), Json::of(delay))),
            }
        }
        let id = field(node, "id").and_then(Node::as_str);
        params.extend(id.map(|id| ("id".to_owned(), Json::text(id))));
        Some(Json::object([("type", Json::text(action)), ("params", Json::Object(params))]))
    }

    /// Whom a `sendTo` is for.
    fn receiver(&mut self, node: &Node) -> Option<String> {
        let to =
            ["to", "target", "targetId", "actorRef"].iter().find_map(|key| field(node, key))?;
        Some(match &**to.as_str()? {
            "#_parent" => "parent".to_owned(),
            id => format!("child:{}", name::id(id)),
        })
    }

    fn one_id(&mut self, node: &Node, action: &str, keys: &[&str]) -> Option<Json> {
        let id = keys.iter().find_map(|key| field(node, key)).and_then(Node::as_str)?;
        let params = Json::object([("id", Json::text(id))]);
        Some(Json::object([("type", Json::text(action)), ("params", params)]))
    }

    fn log(&mut self, node: &Node) -> Option<Json> {
        let value = field(node, "value").or_else(|| field(node, "message"))?;
        let value = self
            .at("params", "params", |this| this.at("value", "message", |this| this.value(value)));
        let mut params = vec![("message".to_owned(), value)];
        let label = field(node, "label").and_then(Node::as_str);
        params.extend(label.map(|label| ("label".to_owned(), Json::text(label))));
        Some(Json::object([("type", Json::text("log")), ("params", Json::Object(params))]))
    }

    /// A custom action: what a worker does here.
    fn custom(&mut self, name: &str, node: &Node) -> Json {
        self.need(NeedKind::Worker, name);
        let action = self.action_name(name);
        let params = node.get("params").map(|params| {
            self.at("params", "params", |this| match &params.kind {
                Kind::Object(members) => Json::Object(
                    members
                        .iter()
                        .map(|Member { key, value, .. }| {
                            (key.to_string(), this.at(key, key, |this| this.value(value)))
                        })
                        .collect(),
                ),
                Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) | Kind::Array(_) => {
                    Json::object([("value", this.value(params))])
                }
            })
        });
        let members = [("type", Some(Json::text(&action))), ("params", params)];
        let members = members.into_iter().filter_map(|(key, it)| Some((key.to_owned(), it?)));
        Json::Object(members.collect())
    }

    /// What an action or actor of the machine is called here.
    pub(super) fn action_name(&mut self, theirs: &str) -> String {
        let mut ours = name::action(theirs);
        if fields::OWN_ACTIONS.contains(&&*ours) {
            ours.push_str("_action");
        }
        while self.names.get(&ours).is_some_and(|other| other != theirs) {
            ours.push('x');
        }
        if self.names.insert(ours.clone(), theirs.to_owned()).is_none() && ours != theirs {
            self.note(format!("{theirs:?} is {ours:?} here"));
        }
        ours
    }
}

/// A field of a built-in action, which stands beside `type` or in `params`.
fn field<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.get(key).or_else(|| node.get("params")?.get(key))
}
