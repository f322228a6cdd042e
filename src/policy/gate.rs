//! The one place where permits are made: a place in the log first, then the resource, then the decision.
//!
//! Absent and forbidden things take the same path and get the same answer. Across environments nothing is looked up, so time tells
//! nothing; within an environment that the caller belongs to, the time of a look-up may tell whether a name is in memory.

use std::sync::Arc;

use super::{
    Action, Context, Permit, Policies, Resource,
    entities::Target,
    permit::elapsed_us,
    set::{Decision, Question},
};
use crate::{
    Error, Result,
    audit::{Draft, Log, Slot, Verdict},
    clock::Clock,
    identity::Caller,
    store::Directory,
};

/// Decides who may do what.
#[derive(Clone)]
pub struct Gate {
    log: Log,
    directory: Directory,
    policies: Arc<Policies>,
    clock: Arc<dyn Clock>,
}

/// The name of what an action is done on.
pub type NameOf<A> = <<A as Action>::On as Resource>::Name;

/// What came of one question: the resource, or why there is no permit. The draft is for the record either way.
struct Judged<On> {
    /// One, where it will travel to the writer from.
    drafts: Vec<Draft>,
    on: Result<On>,
}

impl Gate {
    pub fn new(log: Log, directory: Directory, policies: Arc<Policies>, clock: Arc<dyn Clock>) -> Self {
        Self {
            log,
            directory,
            policies,
            clock,
        }
    }

    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// Leave for `caller` to do `A` on the thing of this name.
    ///
    /// Errors: `Overloaded`, `LogUnavailable` if the log has no room, and then nothing was looked at; `Denied`, the same for what is
    /// absent and what is forbidden; `NotFound` for who would be allowed. Refusals are in the log before they are answered.
    pub async fn permit<A: Action>(&self, caller: &Caller, name: &NameOf<A>, context: Context) -> Result<Permit<A>> {
        let slot = self.log.reserve(caller.facts().deadline).await?;
        let Judged { drafts, on } = self.judge::<A>(caller, name, context).await;
        match on {
            Ok(on) => Ok(Permit::new(on, caller.clone(), slot, drafts)),
            Err(error) => Err(refuse(slot, drafts, error).await),
        }
    }

    /// Two permits or none, as ReEncrypt needs them. Both places are reserved before either is decided, both questions are decided,
    /// and both records of a refusal are in one commit; the one that would have been allowed is recorded as aborted.
    pub async fn permit_pair<A: Action, B: Action>(
        &self,
        caller: &Caller,
        first: (&NameOf<A>, Context),
        second: (&NameOf<B>, Context),
    ) -> Result<(Permit<A>, Permit<B>)> {
        let (slot, other) = self.log.reserve_pair(caller.facts().deadline).await?;
        let first = self.judge::<A>(caller, first.0, first.1).await;
        let second = self.judge::<B>(caller, second.0, second.1).await;
        let error = match (first.on, second.on) {
            (Ok(a), Ok(b)) => {
                return Ok((
                    Permit::new(a, caller.clone(), slot, first.drafts),
                    Permit::new(b, caller.clone(), other, second.drafts),
                ));
            }
            // A refusal says more than that something is missing.
            (Err(Error::NotFound(_)), Err(error @ Error::Denied { .. })) => error,
            (Err(error), _) | (Ok(_), Err(error)) => error,
        };
        drop(other);
        let mut drafts = first.drafts;
        drafts.extend(second.drafts);
        Err(refuse(slot, drafts, error).await)
    }

    async fn judge<A: Action>(&self, caller: &Caller, name: &NameOf<A>, context: Context) -> Judged<A::On> {
        let policies = self.policies.current();
        let principal = policies.principal(caller.identity());
        let object = A::On::shown(name);
        // Whoever cannot reach the environment is answered without a look at the store: neither answer nor time tell what is there.
        let (found, production) = if principal.reaches(&object) {
            self.find::<A::On>(name).await
        } else {
            (Ok(None), true)
        };
        let question = Question {
            who: caller.identity(),
            action: A::NAME,
            name: &object,
            target: Target {
                kind: A::On::TYPE,
                name: &object,
                seen: found.as_ref().ok().and_then(Option::as_ref).map(Resource::view),
                production,
            },
            context: &context,
            cached: !A::CHANGES,
        };
        let decision = policies.decide(&principal, &question);
        let on = match (found, decision.allowed) {
            (_, false) => Err(Error::Denied {
                action: A::NAME,
                object: object.to_string(),
            }),
            (Ok(Some(on)), true) => Ok(on),
            (Ok(None), true) => Err(Error::NotFound(object.to_string())),
            (Err(error), true) => Err(error),
        };
        let mut draft = self.draft::<A>(caller, name, object, on.as_ref().ok(), context);
        draft.policy = policies.hash().clone();
        settle(&mut draft, decision, on.as_ref().err(), caller);
        Judged {
            drafts: vec![draft],
            on,
        }
    }

    /// The thing, if it is there, and whether its environment is production; one that does not exist counts as production.
    async fn find<On: Resource>(&self, name: &On::Name) -> (Result<Option<On>>, bool) {
        let found = On::find(&self.directory, name).await;
        if let Ok(Some(on)) = &found {
            let production = on
                .view()
                .environment()
                .is_some_and(|environment| environment.production);
            return (found, production);
        }
        let production = match On::environment_name(name) {
            Some(environment) => match self.directory.environment(&environment).await {
                Ok(Some(environment)) => environment.production,
                Ok(None) | Err(_) => true,
            },
            None => true,
        };
        (found, production)
    }

    fn draft<A: Action>(
        &self,
        caller: &Caller,
        name: &NameOf<A>,
        object: Arc<str>,
        on: Option<&A::On>,
        context: Context,
    ) -> Draft {
        let view = on.map(Resource::view);
        let environment = match view {
            Some(view) => view.environment().map(|environment| environment.name.shared()),
            None => A::On::environment_name(name).map(|name| name.shared()),
        };
        let facts = caller.facts();
        Draft {
            time: Some(self.clock.now()),
            environment,
            request_id: facts.request_id.clone(),
            trace: facts.trace.clone(),
            peer: facts.peer.clone(),
            operation: A::NAME,
            key: match view {
                Some(super::View::Key(key)) => Some((key.id, 0)),
                _ => None,
            },
            object,
            ec_keys: context.ec_keys,
            ec: context.ec,
            items: context.items,
            bytes_in: context.plaintext_bytes,
            ..Draft::by(caller.identity().actor.clone())
        }
    }
}

fn settle(draft: &mut Draft, decision: Decision, error: Option<&Error>, caller: &Caller) {
    draft.rule = decision.rule;
    let Some(error) = error else { return };
    draft.verdict = if decision.allowed {
        Verdict::Error
    } else {
        Verdict::Refused
    };
    draft.code = error.reason();
    draft.detail = std::error::Error::source(error).map(ToString::to_string);
    draft.latency_us = elapsed_us(caller);
}

/// Records what was refused, waits for the commit, and only then gives the answer.
async fn refuse(slot: Slot, drafts: Vec<Draft>, error: Error) -> Error {
    match slot.commit(drafts, None).await {
        Ok(()) => error,
        Err(_) => Error::LogUnavailable,
    }
}

#[cfg(test)]
mod tests;
