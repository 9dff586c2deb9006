//! What is easily got wrong in statecharts, one story for each (TEMPLATE section 7.3).

use pled_engine::simulate::{Simulation, simulate_line};
use pled_engine::template::Template;
use pled_engine::value::Value;

/// A template of these members.
fn template(members: &str) -> Template {
    let source =
        format!(r#"{{"pled":"1.0","id":"t","version":1,"logic":"pled-logic-1",{members}}}"#);
    Template::parse(&source).unwrap_or_else(|error| panic!("{error}"))
}

/// A simulation that says in a line what it sees: `leaf+leaf: action{params} …`.
struct Story<'t>(Simulation<'t>);

impl<'t> Story<'t> {
    fn of(template: &'t Template) -> Self {
        Self(Simulation::start(template, Value::Null))
    }

    fn then(&mut self, event: &str) -> String {
        self.then_with(event, "null")
    }

    fn then_with(&mut self, event: &str, data: &str) -> String {
        let event = event.parse().unwrap_or_else(|error| panic!("{error}"));
        let data = Value::parse(data.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        self.0.deliver(&event, data).unwrap_or_else(|error| panic!("{error}"));
        self.seen()
    }

    fn after(&mut self, millis: i64) -> String {
        self.0.advance(millis).unwrap_or_else(|error| panic!("{error}"));
        self.seen()
    }

    fn seen(&mut self) -> String {
        let seen = self.0.observe();
        let mut line = seen.configuration.join("+");
        if seen.status.as_str() != "running" {
            line = format!("{line} {}", seen.status.as_str());
        }
        line.push(':');
        for (action, params) in &seen.actions {
            let params =
                if params.to_string() == "{}" { String::new() } else { params.to_string() };
            line = format!("{line} {action}{params}");
        }
        line
    }

    fn context(&mut self) -> String {
        Value::Object(self.0.observe().context).to_string()
    }
}

#[test]
fn document_order_is_that_of_the_text_not_of_the_keys() {
    let template = template(
        r#""type":"parallel","states":{
            "zebra":{"entry":[{"type":"note","params":{"of":"zebra"}}]},
            "ape":{"entry":[{"type":"note","params":{"of":"ape"}}]}}"#,
    );

    let mut story = Story::of(&template);

    assert_eq!(story.seen(), r#"t.zebra+t.ape: note{"of":"zebra"} note{"of":"ape"}"#);
}

#[test]
fn a_wildcard_of_a_child_steals_the_timers_and_errors_of_its_ancestors() {
    let template = template(
        r##""initial":"outer","states":{
            "outer":{"id":"outer","initial":"inner","after":{"10":{"target":"#late"}},"states":{
                "inner":{"id":"inner","on":{"*":{"actions":[{"type":"stolen","params":{"by":{"var":"event.type"}}}]}}}}},
            "late":{"id":"late"}}"##,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.after(10), r#"inner: stolen{"by":"after.10.outer"}"#);
    assert_eq!(story.then("error.action.x"), r#"inner: stolen{"by":"error.action.x"}"#);
}

#[test]
fn no_wildcard_takes_what_is_for_the_engine() {
    let template =
        template(r#""initial":"a","states":{"a":{"on":{"*":{"actions":[{"type":"taken"}]}}}}"#);

    let mut story = Story::of(&template);

    assert_eq!(story.seen(), "t.a:");
    assert_eq!(story.then("pled.cancel"), "t.a cancelled:");
}

#[test]
fn a_guard_that_fails_falls_through_to_wider_descriptors_and_then_to_ancestors() {
    let template = template(
        r#""initial":"a","context":{"n":0},
        "on":{"x.y":{"actions":[{"type":"root"}]}},
        "states":{"a":{"on":{
            "*":{"guard":{"==":[{"var":"event.data"},3]},"actions":[{"type":"any"}]},
            "x.*":{"guard":{"==":[{"var":"event.data"},2]},"actions":[{"type":"short"}]},
            "x.y.*":{"guard":{"==":[{"var":"event.data"},1]},"actions":[{"type":"long"}]},
            "x.y":{"guard":{"==":[{"var":"event.data"},0]},"actions":[{"type":"exact"}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    let taken = ["0", "1", "2", "3", "4"].map(|data| story.then_with("x.y", data));
    assert_eq!(taken, ["t.a: exact", "t.a: long", "t.a: short", "t.a: any", "t.a: root"]);
    assert_eq!(story.then_with("xy", "2"), "t.a:", "x.* is not a prefix of letters");
}

#[test]
fn a_transition_that_does_nothing_keeps_the_event_from_the_ancestors() {
    let template = template(
        r#""initial":"a","on":{"E":{"actions":[{"type":"root"}]}},
        "states":{"a":{"on":{"E":{}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), "t.a:");
}

#[test]
fn guards_see_the_context_before_the_microstep_and_actions_the_one_at_their_place() {
    let template = template(
        r#""type":"parallel","context":{"n":1},"states":{
            "first":{"on":{"E":{"actions":[{"type":"assign","params":{"n":2}}]}}},
            "second":{"on":{"E":{"guard":{"==":[{"var":"context.n"},1]},"actions":[
                {"type":"note","params":{"n":{"var":"context.n"}}},
                {"type":"choose","params":{"branches":[
                    {"guard":{"==":[{"var":"context.n"},2]},"actions":[{"type":"chosen"}]}]}}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), r#"t.first+t.second: note{"n":2} chosen"#);
}

#[test]
fn assigns_follow_each_other_and_the_members_of_one_are_simultaneous() {
    let template = template(
        r#""initial":"a","context":{"x":1,"y":2},"states":{"a":{"on":{
            "SWAP":{"actions":[{"type":"assign","params":{"x":{"var":"context.y"},"y":{"var":"context.x"}}}]},
            "CHAIN":{"actions":[
                {"type":"assign","params":{"x":{"+":[{"var":"context.x"},10]}}},
                {"type":"assign","params":{"y":{"var":"context.x"}}}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.then("SWAP");
    assert_eq!(story.context(), r#"{"x":2,"y":1}"#);

    story.then("CHAIN");
    assert_eq!(story.context(), r#"{"x":12,"y":12}"#);
}

#[test]
fn what_exit_and_transition_assign_is_seen_by_the_entry_of_the_target() {
    let template = template(
        r#""initial":"a","context":{"n":0},"states":{
            "a":{"exit":[{"type":"assign","params":{"n":{"+":[{"var":"context.n"},1]}}}],
                 "on":{"E":{"target":"b","actions":[{"type":"assign","params":{"n":{"*":[{"var":"context.n"},10]}}}]}}},
            "b":{"entry":[{"type":"note","params":{"n":{"var":"context.n"}}}]}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), r#"t.b: note{"n":10}"#);
}

#[test]
fn a_raise_is_taken_in_the_macrostep_and_a_send_to_itself_after_it() {
    let template = template(
        r#""initial":"a","states":{"a":{"on":{
            "E":{"actions":[
                {"type":"send","params":{"event":"SENT"}},
                {"type":"raise","params":{"event":"RAISED"}},
                {"type":"first"}]},
            "RAISED":{"actions":[{"type":"raised"},{"type":"raise","params":{"event":"AGAIN"}}]},
            "AGAIN":{"actions":[{"type":"again"}]},
            "SENT":{"actions":[{"type":"sent"}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), "t.a: first raised again sent");
}

#[test]
fn always_sees_the_event_that_led_to_it_and_comes_before_what_was_raised() {
    let template = template(
        r#""initial":"a","states":{
            "a":{"on":{"E":{"target":"b","actions":[{"type":"raise","params":{"event":"R"}}]}}},
            "b":{"on":{"R":{"actions":[{"type":"too_early"}]}},
                 "always":{"guard":{"==":[{"var":"event.type"},"E"]},"target":"c",
                    "actions":[{"type":"note","params":{"data":{"var":"event.data"}}}]}},
            "c":{"on":{"R":{"actions":[{"type":"in_time"}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then_with("E", "7"), r#"t.c: note{"data":7} in_time"#);
}

#[test]
fn an_always_that_changes_nothing_is_taken_once() {
    let template = template(
        r#""initial":"a","context":{"vip":false,"n":5},"states":{"a":{"always":{
            "guard":{">":[{"var":"context.n"},3]},
            "actions":[{"type":"assign","params":{"vip":true}},{"type":"note"}]}}}"#,
    );

    let mut story = Story::of(&template);

    assert_eq!(story.seen(), "t.a: note note", "once it changed the context, once it did not");
}

#[test]
fn of_regions_that_all_react_the_first_that_leaves_the_parallel_state_wins() {
    let template = template(
        r##""initial":"p","states":{
            "p":{"type":"parallel","states":{
                "stays":{"on":{"E":{"actions":[{"type":"stay"}]}}},
                "leaves":{"on":{"E":{"target":"#t.one","actions":[{"type":"one"}]}}},
                "too":{"on":{"E":{"target":"#t.two","actions":[{"type":"two"}]}}}}},
            "one":{},"two":{}}"##,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), "t.one: stay one");
}

#[test]
fn a_parallel_state_is_done_after_its_last_region() {
    let done = r#"{"type":"final"}"#;
    let template = template(&format!(
        r##""initial":"p","states":{{
            "p":{{"id":"p","type":"parallel",
                "on":{{"done.state.*":{{"actions":[{{"type":"done","params":{{"what":{{"var":"event.type"}}}}}}]}}}},
                "states":{{
                    "a":{{"id":"a","initial":"x","states":{{"x":{{"on":{{"E":"y"}}}},"y":{done}}}}},
                    "b":{{"id":"b","initial":"x","states":{{"x":{{"on":{{"E":"y"}}}},"y":{done}}}}}}}}}}}"##
    ));

    let mut story = Story::of(&template);
    story.seen();

    let seen = story.then("E");
    let done = |what: &str| format!(r#" done{{"what":"done.state.{what}"}}"#);
    assert_eq!(seen, format!("t.p.a.y+t.p.b.y:{}{}{}", done("a"), done("b"), done("p")));
}

#[test]
fn the_output_of_a_final_state_is_the_data_of_its_parents_done_state() {
    let template = template(
        r#""initial":"work","states":{
            "work":{"initial":"doing","states":{
                "doing":{"on":{"E":"done"}},
                "done":{"type":"final","output":{"n":{"var":"event.data"}}}},
                "onDone":{"target":"rest","actions":[{"type":"note","params":{"data":{"var":"event.data"}}}]}},
            "rest":{}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then_with("E", "4"), r#"t.rest: note{"data":{"n":4}}"#);
}

#[test]
fn a_final_child_of_the_root_ends_all_and_the_rest_leaves_in_reverse_order() {
    let template = template(
        r##""type":"parallel","exit":[{"type":"root_left"}],
        "invoke":{"id":"watch","src":"watch"},
        "states":{
            "a":{"exit":[{"type":"a_left"}],"initial":"x","states":{"x":{"on":{"E":"y"}},"y":{"type":"final","exit":[{"type":"y_left"}]}}},
            "b":{"initial":"x","after":{"10":{"actions":[{"type":"late"}]}},
                 "states":{"x":{"on":{"E":"y"}},"y":{"type":"final"}}}}"##,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(
        story.then("E"),
        r#"t.a.y+t.b.y done: y_left a_left root_left invoke.cancel{"id":"watch"}"#
    );
    assert_eq!(story.after(100), "t.a.y+t.b.y done:");
    assert_eq!(story.then("E"), "t.a.y+t.b.y done:");
}

#[test]
fn history_restores_the_configuration_and_begins_timers_and_work_afresh() {
    let template = template(
        r##""initial":"work","states":{
            "work":{"initial":"one","on":{"HOLD":"hold"},"states":{
                "back":{"type":"history","history":"deep"},
                "one":{"on":{"NEXT":"two"}},
                "two":{"id":"two","entry":[{"type":"entered"}],
                    "invoke":{"id":"job","src":"job"},
                    "after":{"100":{"actions":[{"type":"rang"}]}}}}},
            "hold":{"on":{"RESUME":"#t.work.back"}}}"##,
    );

    let mut story = Story::of(&template);
    story.seen();
    let start = r#"entered invoke.start{"id":"job","input":null,"src":"job"}"#;

    assert_eq!(story.then("NEXT"), format!("two: {start}"));
    assert_eq!(story.after(90), "two:");
    assert_eq!(story.then("HOLD"), r#"t.hold: invoke.cancel{"id":"job"}"#);
    assert_eq!(story.then("RESUME"), format!("two: {start}"));
    assert_eq!(story.after(90), "two:", "the timer began at zero");
    assert_eq!(story.after(10), "two: rang");
}

#[test]
fn a_history_that_was_never_recorded_leads_to_its_target_or_the_default() {
    let template = template(
        r##""initial":"start","states":{
            "start":{"on":{"A":"#t.with.h","B":"#t.without.h"}},
            "with":{"initial":"x","states":{"h":{"type":"history","target":"y"},"x":{},"y":{}},"on":{"BACK":"start"}},
            "without":{"initial":{"target":"x","actions":[{"type":"initially"}]},
                "states":{"h":{"type":"history"},"x":{},"y":{}}}}"##,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("A"), "t.with.y:");
    story.then("BACK");
    assert_eq!(story.then("B"), "t.without.x: initially");
}

#[test]
fn a_parallel_state_that_is_left_for_its_own_history_is_entered_again() {
    // XState 5.33.3 enters the regions without their parent; the JSONL door shows that.
    let members = r#""initial":"p","states":{"p":{"type":"parallel",
        "entry":[{"type":"p_entered"}],"exit":[{"type":"p_left"}],
        "states":{"h":{"type":"history"},"a":{"on":{"E":"h"}},"b":{}}}}"#;
    let template = template(members);

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), "t.p.a+t.p.b: p_left p_entered");
    assert_eq!(story.then("E"), "t.p.a+t.p.b:", "now there is a history, within the state");
    let line = format!(
        r#"{{"template":{{"pled":"1.0","id":"t","version":1,"logic":"pled-logic-1",{members}}},"steps":[{{"event":{{"name":"E"}}}}]}}"#
    );
    assert!(simulate_line(&line).contains(r#""actions":[["p_left",{}]]"#));
}

#[test]
fn a_state_that_its_history_restores_in_place_begins_its_timers_afresh() {
    let template = template(
        r##""initial":"p","states":{"p":{"initial":"a","states":{
            "h":{"type":"history"},
            "a":{"entry":[{"type":"entered"}],"after":{"10":{"actions":[{"type":"rang"}]}},
                "on":{"OUT":"#t.q","AGAIN":"h"}}}},
            "q":{"on":{"IN":"p"}}}"##,
    );

    let mut story = Story::of(&template);
    story.then("OUT");
    story.then("IN");

    assert_eq!(story.after(6), "t.p.a:");
    assert_eq!(story.then("AGAIN"), "t.p.a: entered", "it is not left, being the source");
    assert_eq!(story.after(6), "t.p.a:");
    assert_eq!(story.after(4), "t.p.a: rang");
}

#[test]
fn a_timer_of_a_state_that_was_left_never_rings() {
    let template = template(
        r#""initial":"a","states":{
            "a":{"after":{"10":{"actions":[{"type":"rang"}]}},"on":{"OUT":"b"}},
            "b":{"on":{"BACK":"a"}}}"#,
    );

    let mut story = Story::of(&template);
    story.after(9);
    story.then("OUT");
    story.then("BACK");

    assert_eq!(story.after(1), "t.a:", "the first timer went with the first stay");
    assert_eq!(story.after(9), "t.a: rang");
}

#[test]
fn timers_ring_by_due_time_then_in_the_order_in_which_they_were_set() {
    let rang = r#"{"actions":[{"type":"rang","params":{"at":{"var":"event.time"},"by":{"var":"event.type"}}}]}"#;
    let template = template(&format!(
        r#""initial":"a","context":{{"soon":5}},"delays":{{"named":{{"var":"context.soon"}}}},
        "states":{{"a":{{"id":"a","after":{{"20":{rang},"named":{rang},"5":{rang}}},"on":{{"S":{rang}}},
            "entry":[{{"type":"send","params":{{"event":"S","delay_ms":5}}}}]}}}}"#
    ));

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(
        story.after(50),
        concat!(
            r#"a: rang{"at":5,"by":"S"} rang{"at":5,"by":"after.5.a"}"#,
            r#" rang{"at":5,"by":"after.named.a"} rang{"at":20,"by":"after.20.a"}"#
        )
    );
}

#[test]
fn a_delayed_send_outlives_its_state_and_goes_by_cancel_or_by_the_same_id() {
    let template = template(
        r##""initial":"a","on":{"S":{"actions":[{"type":"got","params":{"n":{"var":"event.data"}}}]}},"states":{
            "a":{"on":{
                "ONE":{"target":"b","actions":[{"type":"send","params":{"event":"S","data":1,"delay_ms":10,"id":"x"}}]}}},
            "b":{"on":{
                "TWO":{"actions":[{"type":"raise","params":{"event":"S","data":2,"delay_ms":10,"id":"x"}}]},
                "CANCEL":{"actions":[{"type":"cancel","params":{"id":"x"}}]}}}}"##,
    );

    let mut story = Story::of(&template);
    story.then("ONE");
    story.after(9);
    story.then("TWO");
    assert_eq!(story.after(9), "t.b:", "the first was replaced");
    assert_eq!(story.after(1), r#"t.b: got{"n":2}"#);

    story.then("TWO");
    story.then("CANCEL");
    assert_eq!(story.after(100), "t.b:");
}

#[test]
fn a_result_that_comes_after_its_state_was_left_is_ignored() {
    let template = template(
        r#""initial":"a","on":{"*":{"actions":[{"type":"heard"}]}},"states":{
            "a":{"invoke":{"id":"job","src":"job","onDone":"done"},"on":{"OUT":"b"}},
            "b":{},"done":{}}"#,
    );

    let mut story = Story::of(&template);
    assert_eq!(story.seen(), r#"t.a: invoke.start{"id":"job","input":null,"src":"job"}"#);
    assert_eq!(story.then("OUT"), r#"t.b: invoke.cancel{"id":"job"}"#);
    assert_eq!(story.then("done.invoke.job"), "t.b:");

    let mut story = Story::of(&template);
    story.seen();
    assert_eq!(story.then("done.invoke.job"), "t.done:");
    assert_eq!(story.then("done.invoke.job"), "t.done:", "it came already");
}

#[test]
fn an_invocation_of_a_state_that_is_left_at_once_is_never_started() {
    let template = template(
        r#""initial":"a","states":{
            "a":{"on":{"E":"b"}},
            "b":{"invoke":{"id":"job","src":"job"},"after":{"1":"a"},"always":"c"},
            "c":{}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), "t.c:");
    assert_eq!(story.after(10), "t.c:");
}

#[test]
fn a_loop_of_microsteps_fails_the_execution_as_it_was_before_the_event() {
    let template = template(
        r#""initial":"a","context":{"n":0},"limits":{"microsteps":10},"states":{
            "a":{"on":{"E":{"target":"b","actions":[{"type":"seen"}]}}},
            "b":{"always":{"target":"c","actions":[{"type":"assign","params":{"n":{"+":[{"var":"context.n"},1]}}}]}},
            "c":{"always":"b"}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), "t.a failed:");
    assert_eq!(story.context(), r#"{"n":0}"#);
}

#[test]
fn a_chain_as_long_as_the_bound_is_no_loop() {
    let chain = |bound: u32| {
        format!(
            r#""initial":"a","context":{{"n":0}},"limits":{{"microsteps":{bound}}},"states":{{"a":{{
            "on":{{"E":{{"actions":[{{"type":"assign","params":{{"n":1}}}}]}}}},
            "always":{{"guard":{{"and":[{{"<":[0,{{"var":"context.n"}}]}},{{"<":[{{"var":"context.n"}},4]}}]}},
                "actions":[{{"type":"assign","params":{{"n":{{"+":[{{"var":"context.n"}},1]}}}}}}]}}}}}}"#
        )
    };

    let enough = template(&chain(4));
    assert_eq!(Story::of(&enough).then("E"), "t.a:", "the event and three after it");
    let short = template(&chain(3));
    assert_eq!(Story::of(&short).then("E"), "t.a failed:");
}

#[test]
fn an_execution_that_only_talks_to_itself_fails() {
    let template = template(
        r#""initial":"a","limits":{"microsteps":5},"states":{"a":{"on":{
            "PING":{"actions":[{"type":"hit"},{"type":"send","params":{"event":"PONG"}}]},
            "PONG":{"actions":[{"type":"hit"},{"type":"send","params":{"event":"PING"}}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("PING"), "t.a failed: hit hit hit hit hit hit", "its cause and five");
}

#[test]
fn a_transition_from_an_atomic_state_to_itself_is_internal_unless_it_reenters() {
    let template = template(
        r#""initial":"a","states":{"a":{
            "entry":[{"type":"entered"}],"exit":[{"type":"left"}],
            "on":{"INTERNAL":{"target":"a","actions":[{"type":"acted"}]},
                  "EXTERNAL":{"target":"a","reenter":true,"actions":[{"type":"acted"}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("INTERNAL"), "t.a: acted");
    assert_eq!(story.then("EXTERNAL"), "t.a: left acted entered");
}

#[test]
fn a_compound_state_that_targets_its_child_stays_unless_it_reenters() {
    // W3C tests 506 and 533: what SCXML says of internal transitions of compound sources.
    let template = template(
        r#""initial":"p","states":{"p":{"initial":"x",
            "entry":[{"type":"p_entered"}],"exit":[{"type":"p_left"}],
            "states":{"x":{"exit":[{"type":"x_left"}]},"y":{"entry":[{"type":"y_entered"}]}},
            "on":{"IN":".y","OUT":{"target":".y","reenter":true}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("IN"), "t.p.y: x_left y_entered");
    assert_eq!(story.then("OUT"), "t.p.y: p_left p_entered y_entered");
}

#[test]
fn a_guard_without_a_value_does_not_hold_and_is_reported_once() {
    let template = template(
        r#""initial":"a","states":{"a":{
            "always":{"guard":{"<":[{"var":"event.data"},0]},"target":"b"},
            "on":{
                "error.execution":{"actions":[{"type":"heard","params":{"where":{"var":"event.data.where"}}}]},
                "E":[{"guard":{"<":[{"var":"event.data"},0]},"target":"b"},{"actions":[{"type":"next"}]}]}},
            "b":{}}"#,
    );

    let mut story = Story::of(&template);
    let heard = |place: &str| format!(r#"heard{{"where":"/states/a/{place}/guard"}}"#);
    assert_eq!(story.then_with("X", "2"), "t.a:");

    assert_eq!(
        story.then_with("E", "[2]"),
        format!("t.a: next {} {}", heard("on/E/0"), heard("always"))
    );
}

#[test]
fn an_action_that_fails_ends_its_list_alone() {
    let template = template(
        r#""initial":"a","context":{"n":1},"states":{
            "a":{"on":{"E":{"target":"b","actions":[
                {"type":"before"},
                {"type":"choose","params":{"branches":[{"actions":[
                    {"type":"assign","params":{"n":{"+":["x",1]},"m":2}},{"type":"inside"}]}]}},
                {"type":"behind"}]}}},
            "b":{"entry":[{"type":"entered"}],
                "on":{"error.execution":{"actions":[{"type":"heard","params":{"where":{"var":"event.data.where"}}}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    let place = "/states/a/on/E/actions/1/params/branches/0/actions/0";
    assert_eq!(story.then("E"), format!(r#"t.b: before entered heard{{"where":"{place}"}}"#));
    assert_eq!(story.context(), r#"{"n":1}"#);
}

#[test]
fn an_error_that_nothing_hears_fails_the_execution_only_if_the_template_says_so() {
    let members = |on_error: &str| {
        format!(
            r#""initial":"a","on_error":"{on_error}","states":{{"a":{{
            "invoke":{{"id":"job","src":"job","onDone":"b"}}}},"b":{{}}}}"#
        )
    };

    let incident = template(&members("incident"));
    let mut story = Story::of(&incident);
    story.seen();
    assert_eq!(story.then("error.invoke.job"), "t.a:");
    assert_eq!(story.then("done.invoke.job"), "t.b:", "a person may complete it");

    let fail = template(&members("fail"));
    let mut story = Story::of(&fail);
    story.seen();
    assert_eq!(story.then("error.invoke.job"), "t.a failed:");
}

#[test]
fn a_context_that_would_outgrow_its_bound_stays_as_it_was() {
    let template = template(
        r#""initial":"a","limits":{"context_bytes":60},"context":{"text":"0123456789"},"states":{"a":{"on":{
            "GROW":{"actions":[{"type":"assign","params":{"text":{"cat":[{"var":"context.text"},{"var":"context.text"}]}}},{"type":"grown"}]},
            "error.execution":{"actions":[{"type":"full"}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    let seen = ["GROW", "GROW", "GROW"].map(|event| story.then(event));
    assert_eq!(seen, ["t.a: grown", "t.a: grown", "t.a: full"]);
    assert_eq!(story.context().len(), r#"{"text":""}"#.len() + 40);
}

#[test]
fn logic_that_goes_on_too_long_is_cut_off_and_leaves_a_way_out_without_logic() {
    let template = template(
        r#""initial":"a","limits":{"logic_steps":50},"context":{"list":[1,2,3,4,5,6,7,8,9,10]},"states":{"a":{"on":{
            "E":{"actions":[{"type":"assign","params":{"list":{"map":[{"var":"context.list"},
                {"reduce":[[1,2,3,4,5,6,7,8,9,10],{"+":[{"var":"current"},{"var":"accumulator"}]},0]}]}}}]},
            "error.execution":"stuck"}},"stuck":{}}"#,
    );

    let mut story = Story::of(&template);
    story.seen();

    assert_eq!(story.then("E"), "t.stuck:");
}

#[test]
fn data_that_looks_like_logic_is_data() {
    let template = template(
        r#""initial":"a","context":{"secret":"s","got":null},"states":{"a":{"on":{"E":{"actions":[
            {"type":"assign","params":{"got":{"var":"event.data"}}}]}}}}"#,
    );

    let mut story = Story::of(&template);
    story.then_with("E", r#"{"var":"context.secret"}"#);

    assert_eq!(story.context(), r#"{"got":{"var":"context.secret"},"secret":"s"}"#);
}

#[test]
fn compensations_are_pushed_by_success_and_run_in_reverse() {
    let invoke = |id: &str, next: &str| {
        format!(
            r#""{id}":{{"invoke":{{"id":"{id}","src":"do","onDone":"{next}",
            "compensate":{{"src":"undo","input":{{"what":{{"var":"event.data"}}}}}}}}}}"#
        )
    };
    let template = template(&format!(
        r#""initial":"one","states":{{{},{},
            "undo":{{"entry":[{{"type":"compensate"}}],"on":{{"done.compensate":"end"}}}},"end":{{"type":"final"}}}}"#,
        invoke("one", "two"),
        invoke("two", "undo")
    ));

    let mut story = Story::of(&template);
    story.then_with("done.invoke.one", "1");
    assert_eq!(
        story.then_with("done.invoke.two", "2"),
        concat!(
            r#"t.undo: compensate{"id":"two","input":{"what":2},"src":"undo"}"#,
            r#" compensate{"id":"one","input":{"what":1},"src":"undo"}"#
        )
    );
    assert_eq!(story.then("done.compensate"), "t.end done:");
}

#[test]
fn a_cancel_that_the_template_does_not_take_waits_for_the_compensations() {
    let template = template(
        r#""initial":"one","states":{"one":{"invoke":{"id":"one","src":"do","onDone":"rest",
            "compensate":{"src":"undo"}}},"rest":{"on":{"again":"one"}}}"#,
    );

    for outcome in ["done.compensate", "error.compensate"] {
        let mut story = Story::of(&template);
        story.then_with("done.invoke.one", "1");
        assert_eq!(
            story.then("pled.cancel"),
            r#"t.rest: compensate{"id":"one","input":null,"src":"undo"}"#
        );
        assert_eq!(story.then("again"), "t.rest:");
        assert_eq!(story.then("pled.cancel"), "t.rest:");
        assert_eq!(story.then(outcome), "t.rest cancelled:");
    }
}

#[test]
fn a_bad_case_is_answered_with_the_place_and_the_next_goes_on() {
    let head =
        r#"{"name":"n","template":{"pled":"1.0","id":"t","version":1,"logic":"pled-logic-1","#;
    let error = |line: &str| {
        let result = Value::parse(simulate_line(line).as_bytes()).unwrap_or_default();
        let error = result.get("error").cloned().unwrap_or_default();
        let pointer = error.get("pointer").and_then(Value::as_str).unwrap_or("none").to_owned();
        (result.get("name").cloned().unwrap_or_default().to_string(), pointer)
    };
    let named = |pointer: &str| (r#""n""#.to_owned(), pointer.to_owned());

    assert_eq!(error("no json"), ("null".to_owned(), String::new()));
    assert_eq!(error(r#"{"name":"n"}"#), named(""));
    let unknown = format!(r#"{head}"initial":"a","states":{{"a":{{"on":{{"X":"b"}}}}}}}}}}"#);
    assert_eq!(error(&unknown), named("/states/a/on/X"));
    let twice = format!(r#"{head}"initial":"a","states":{{"a":{{}},"a":{{}}}}}}}}"#);
    assert_eq!(error(&twice), named("/states/a"));
    let step = |step: &str| {
        error(&format!(r#"{head}"initial":"a","states":{{"a":{{}}}}}},"steps":[{{}},{step}]}}"#))
    };
    assert_eq!(step(r#"{"after_ms":-1}"#), named("/steps/1/after_ms"));
    assert_eq!(step(r#"{"event":{"name":"done.state.t"}}"#), named("/steps/1/event/name"));
    assert_eq!(step(r#"{"event":{"data":1}}"#), named("/steps/1/event"));
    assert_eq!(step(r#"{"event":{"name":"E"}}"#), named("none"));
}
