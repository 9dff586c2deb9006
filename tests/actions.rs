//! Actions as an operator binds them, and incidents as a person decides them: the real binary.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

#[expect(dead_code, reason = "other stories kill the server")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pled_harness::{NatsOptions, free_port, wait_until};
use serde_json::{Value, json};
use support::{Installation, SOON};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const TEMPLATE: &str = r##"{
  "pled": "1.0", "id": "pay", "version": 1, "logic": "pled-logic-1",
  "context": { "ref": null }, "initial": "charging",
  "states": {
    "charging": {
      "entry": [{ "type": "assign", "params": { "ref": null } }],
      "invoke": {
        "id": "charge", "src": "payments.charge", "input": { "amount": 5 },
        "onDone": { "target": "paid", "actions": [
          { "type": "assign", "params": { "ref": { "var": "event.data.id" } } }] }
      }
    },
    "paid": { "type": "final" }
  },
  "output": { "ref": { "var": "context.ref" } }
}"##;

/// A payment service that works or does not.
async fn payments() -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/charges", listener.local_addr().unwrap());
    let works = Arc::new(AtomicBool::new(false));
    let asked = works.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 8_192]).await;
                let (status, body) = match asked.load(Ordering::SeqCst) {
                    true => ("200 OK", r#"{"id":"ch_1"}"#),
                    false => ("402 Payment Required", r#"{"why":"no money"}"#),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    (url, works)
}

impl Installation {
    async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.pled(&[arguments, &["--output", "json"]].concat()).await;
        let answer = said.succeeded();
        serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    async fn action(&self, name: &str) -> Value {
        let rows = self.json(&["action", "list"]).await;
        rows.as_array()
            .unwrap()
            .iter()
            .find(|row| row["action"] == name)
            .cloned()
            .unwrap_or_default()
    }

    async fn incidents(&self, arguments: &[&str]) -> Vec<Value> {
        let rows = self.json(&[&["incident", "list"], arguments].concat()).await;
        rows.as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn story_a_service_is_bound_fails_and_a_person_has_its_work_done_again() {
    let pled = Installation::start(NatsOptions::default(), None).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pay.json");
    std::fs::write(&file, TEMPLATE).unwrap();
    let file = file.to_str().unwrap();
    let (url, works) = payments().await;

    // Nobody does it yet, and a check of the installation says so.
    pled.pled(&["template", "add", file]).await.succeeded();
    let checked = pled.pled(&["check", "--live", file]).await;
    assert!(
        checked.succeeded().contains("nobody does payments.charge")
            && checked.out.contains("no worker pulls worker-payments-charge"),
        "{}",
        checked.out
    );
    assert_eq!(pled.pled(&["check", "--live", "--deny-warnings", file]).await.code, Some(1));
    assert_eq!(pled.action("payments.charge").await["served"], false);

    // What is wrong with a binding is said when it is put.
    let wrong = pled.pled(&["action", "bind", "payments.charge", r#"{"http":{"ulr":1}}"#]).await;
    assert_eq!(wrong.code, Some(1));
    for said in ["/http/ulr: this is none of", "did you mean `url`?", "/http/url: this is missing"]
    {
        assert!(wrong.err.contains(said), "{said} is not in {}", wrong.err);
    }
    let built_in = pled.pled(&["action", "bind", "http", r#"{"nats":{"publish":"a"}}"#]).await;
    assert!(built_in.err.contains("http is built in"), "{}", built_in.err);
    let binding = format!(
        r#"{{"http":{{"url":"{url}","headers":{{"authorization":"Bearer ${{secret:PAY}}"}}}}}}"#
    );
    let warned = pled.pled(&["action", "bind", "payments.charge", &binding]).await;
    assert_eq!(warned.code, Some(0));
    assert!(warned.err.contains("there is no secret PAY here"), "{}", warned.err);
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("PAY"), "s3cret-value\n").unwrap();
    let secrets = secrets.to_str().unwrap();
    pled.pled(&["action", "bind", "payments.charge", &binding, "--secrets-dir", secrets])
        .await
        .succeeded();
    pled.pled(&["action", "limit", "payments.charge", "--concurrency", "8"]).await.succeeded();

    let listen = format!("127.0.0.1:{}", free_port());
    let all = pled
        .role("all", &["all", "--listen", &listen, "--allow-private", "--secrets-dir", secrets]);
    wait_until(SOON, "it is served", async || {
        pled.action("payments.charge").await["served"] == true
    })
    .await;
    let known = pled.action("payments.charge").await;
    assert_eq!(known["binding"]["limits"], json!({ "concurrency": 8 }));
    assert_eq!(known["consumer"], "worker-payments-charge");
    let shown = pled.pled(&["action", "show", "payments.charge"]).await;
    assert!(shown.succeeded().contains("${secret:PAY}"), "{}", shown.out);
    let checked = pled.pled(&["check", "--live", file]).await;
    assert!(!checked.succeeded().contains("nobody does"), "{}", checked.out);

    // Three payments fail in the same way.
    for id in ["pay-1", "pay-2", "pay-3"] {
        pled.json(&["start", "pay", "{}", "--id", id]).await;
    }
    wait_until(SOON, "three incidents are there", async || {
        pled.incidents(&["--each"]).await.len() == 3
    })
    .await;
    let groups = pled.incidents(&[]).await;
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!((&groups[0]["count"], &groups[0]["code"]), (&json!(3), &json!("http_402")));
    assert_eq!(groups[0]["event"], "error.invoke.charge");
    let group = groups[0]["group"].as_str().unwrap().to_owned();
    let each = pled.incidents(&["--group", &group]).await;
    let id = |of: &str| {
        let found = each.iter().find(|row| row["execution"] == of).unwrap();
        found["incident"].as_str().unwrap().to_owned()
    };
    let shown = pled.pled(&["incident", "show", &id("pay-1")]).await;
    for said in ["payments.charge", "http_402", "no money", &group] {
        assert!(shown.succeeded().contains(said), "{said} is not in {}", shown.out);
    }

    // One is tried again and fails again; then the service works, and the whole group is.
    let tried = pled.pled(&["incident", "retry", &id("pay-1")]).await;
    assert!(tried.succeeded().contains("retry taken in entry"), "{}", tried.out);
    wait_until(SOON, "it failed again", async || {
        let shown = pled.pled(&["incident", "show", &id("pay-1")]).await;
        shown.code == Some(0) && pled.incidents(&["--each"]).await.len() == 3
    })
    .await;
    pled.pled(&["incident", "resolve", &id("pay-2"), "--data", r#"{"id":"cash"}"#])
        .await
        .succeeded();
    works.store(true, Ordering::SeqCst);
    let retried = pled.json(&["incident", "retry", "--all", "--group", &group]).await;
    assert_eq!(retried["failed"], 0, "{retried}");
    for (id, charge) in [("pay-1", "ch_1"), ("pay-2", "cash"), ("pay-3", "ch_1")] {
        let output = async || pled.json(&["show", id]).await["state"]["output"].clone();
        wait_until(SOON, id, async || output().await == json!({ "ref": charge })).await;
        pled.pled(&["replay", id, "--verify"]).await.succeeded();
    }
    wait_until(SOON, "no incident is left", async || pled.incidents(&[]).await.is_empty()).await;
    let gone = pled.pled(&["incident", "ignore", &id("pay-1")]).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("closed") || gone.err.contains("ended"), "{}", gone.err);
    assert!(!all.log().contains("s3cret-value"));

    let verified = pled.pled(&["verify"]).await;
    assert!(verified.succeeded().ends_with("everything holds\n"), "{}", verified.out);
    pled.pled(&["action", "unbind", "payments.charge"]).await.succeeded();
    wait_until(SOON, "it is left to others", async || {
        pled.action("payments.charge").await["served"] == false
    })
    .await;
}

#[tokio::test]
async fn story_one_execution_starts_another_and_tells_it_something_once() {
    let pled = Installation::start(NatsOptions::default(), None).await;
    let folder = tempfile::tempdir().unwrap();
    for (name, template) in [
        (
            "leader",
            r##"{"pled":"1.0","id":"leader","version":1,"logic":"pled-logic-1",
            "context":{"follower":null},"initial":"starting","states":{
              "starting":{"invoke":{"id":"start","src":"start_execution",
                "input":{"template":"follower","input":{"n":7}},
                "onDone":{"target":"telling","actions":[{"type":"assign","params":
                  {"follower":{"var":"event.data.execution"}}}]},"onError":"failed"}},
              "telling":{"invoke":{"id":"tell","src":"send_event",
                "input":{"execution":{"var":"context.follower"},"event":"GO","data":{"fast":true}},
                "onDone":"asking","onError":"failed"}},
              "asking":{"invoke":{"id":"ask","src":"send_event",
                "input":{"execution":"nobody","event":"GO"},
                "onDone":"failed","onError":"done"}},
              "failed":{},"done":{"type":"final","output":{"var":"event.data.code"}}},
            "output":{"follower":{"var":"context.follower"},"code":{"var":"event.data"}}}"##,
        ),
        (
            "follower",
            r##"{"pled":"1.0","id":"follower","version":1,"logic":"pled-logic-1",
            "context":{},"initial":"waiting","states":{"waiting":{"on":{"GO":"gone"}},
            "gone":{"type":"final"}}}"##,
        ),
    ] {
        let file = folder.path().join(format!("{name}.json"));
        std::fs::write(&file, template).unwrap();
        pled.pled(&["template", "add", file.to_str().unwrap()]).await.succeeded();
    }
    let listen = format!("127.0.0.1:{}", free_port());
    let _all = pled.role("all", &["all", "--listen", &listen]);

    pled.json(&["start", "leader", "null", "--id", "leader-1", "--wait"]).await;
    wait_until(SOON, "the leader is done", async || {
        pled.json(&["show", "leader-1"]).await["status"] == "done"
    })
    .await;

    let leader = pled.json(&["show", "leader-1"]).await;
    let follower = leader["state"]["context"]["follower"].as_str().unwrap();
    assert_eq!(leader["state"]["output"]["code"], "unknown_execution", "{leader}");
    let shown = pled.json(&["show", follower]).await;
    assert_eq!((&shown["status"], &shown["template"]), (&json!("done"), &json!("follower@1")));
}
