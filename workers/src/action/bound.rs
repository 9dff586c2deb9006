//! Handlers of bound actions: what PLED_ACTIONS says is done.

use std::sync::Arc;

use futures::future::BoxFuture;
use pled_engine::value::Value;
use pled_streams::Nats;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::binding::{Binding, HttpTarget, Target};
use super::builtin::{Exchange, Http, Webhook, nats_publish, nats_request, own_headers};
use super::handler::{Handler, Task, TaskError};
use super::secret::{Mask, Secrets};

/// What a worker needs to do bound actions.
#[derive(Clone, Debug)]
pub struct Binder {
    /// Where services on NATS are.
    pub nats: Nats,
    /// Makes the calls of HTTP.
    pub http: Http,
    /// Has the secrets that bindings name.
    pub secrets: Secrets,
}

impl Binder {
    /// The handler of a binding; `None` where workers of the deployment's own do the action.
    #[must_use]
    pub fn handler(&self, binding: Binding) -> Option<Arc<dyn Handler>> {
        let target = Arc::new(binding.target?);
        Some(Arc::new(Bound { binder: self.clone(), target }))
    }

    async fn call(self, target: &Target, task: Task) -> Result<Value, TaskError> {
        match target {
            Target::Http(target) => self.call_http(target, &task).await,
            Target::Webhook(target) => {
                let webhook = Webhook { http: self.http, secrets: self.secrets };
                webhook.send(&target.url, &target.secret, target.timeout, &task, &task.input).await
            }
            Target::NatsRequest { subject, timeout } => {
                nats_request(&self.nats, subject, &task.input, &task.key, *timeout).await
            }
            Target::NatsPublish { subject } => {
                nats_publish(&self.nats, subject, &task.input, &task.key).await
            }
        }
    }

    async fn call_http(self, target: &HttpTarget, task: &Task) -> Result<Value, TaskError> {
        let mut mask = Mask::default();
        let exchange = self.exchange(target, task, &mut mask).await;
        let answer = match exchange {
            Ok(exchange) => self.http.exchange(exchange).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                let response = mask.value(answer.into_value(&target.response.headers));
                Ok(target.response.result.of(&response))
            }
            Err(error) => Err(mask.error(error)),
        }
    }

    async fn exchange(
        &self,
        target: &HttpTarget,
        task: &Task,
        mask: &mut Mask,
    ) -> Result<Exchange, TaskError> {
        let bad = |message: String| TaskError::fatal("bad_input", message);
        let url = target.url.fill(&task.input).map_err(bad)?;
        let mut headers = own_headers(task)?;
        let body = target.body.as_ref().map(|body| body.of(&task.input).to_canonical().into());
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, text) in &target.headers {
            let text = text.fill(&self.secrets, mask).await?;
            // Nothing of the value is told: it may be the secret that is at fault.
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                TaskError::fatal("bad_header", format!("the header {name} cannot hold its value"))
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Exchange {
            method: target.method.clone(),
            url,
            headers,
            body,
            timeout: target.timeout,
            bytes_max: target.response.bytes_max,
            keep_headers: target.response.headers.clone(),
            retry_on: target.retry_on.clone(),
            follow: false,
        })
    }
}

struct Bound {
    binder: Binder,
    target: Arc<Target>,
}

impl Handler for Bound {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        let (binder, target) = (self.binder.clone(), self.target.clone());
        Box::pin(async move { binder.call(&target, task).await })
    }
}
