//! Requests that are sent again: the first answer is given again, and nothing is done twice.
//!
//! The answer is kept in the same step as what the request changed, so that both are on disk or neither is.

use super::records::{AnswerKey, Change, KeptAnswer};
use super::{At, State};

/// An answer is given again for this long.
pub const ANSWERS_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Answers that are kept at once; the oldest goes before its time beyond that.
const MAX_ANSWERS: usize = 10_000;

/// A request that may be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeatable {
    /// Whose, and under which key.
    pub of: AnswerKey,
    /// sha256 of method, path and body.
    pub request: String,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of HTTP.
    pub status: u16,
    /// Why it was refused.
    pub code: Option<String>,
    /// JSON.
    pub body: String,
}

/// Whether an answer may be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Nothing in it is secret.
    Open,
    /// It holds a secret, which is kept as a hash elsewhere: the answer is repeated from memory alone.
    Secret,
}

/// An answer under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// It was done now.
    Done(Outcome),
    /// It was done before; this is what was answered.
    Repeated(Outcome),
    /// The key was used for another request.
    OtherRequest,
    /// It was done before the coordinator started, and its answer was a secret.
    SecretGone,
}

impl State {
    /// Does what is asked, unless it was done under the same key before.
    pub fn once(
        &mut self,
        asked: Option<&Repeatable>,
        secrecy: Secrecy,
        at: At,
        act: impl FnOnce(&mut Self, At) -> Outcome,
    ) -> Once {
        let Some(asked) = asked else { return Once::Done(act(self, at)) };
        self.forget_old_answers(at);
        if let Some(kept) = self.answers.get(&asked.of) {
            if kept.request != asked.request {
                return Once::OtherRequest;
            }
            let Some(body) = kept.body.clone() else { return Once::SecretGone };
            let (status, code) = (kept.status, kept.code.clone());
            return Once::Repeated(Outcome { status, code, body });
        }
        let outcome = act(self, at);
        let kept = KeptAnswer {
            of: asked.of.clone(),
            request: asked.request.clone(),
            at_ms: at.unix_ms,
            status: outcome.status,
            code: outcome.code.clone(),
            body: Some(outcome.body.clone()),
        };
        let written = match secrecy {
            Secrecy::Open => kept.clone(),
            Secrecy::Secret => KeptAnswer { body: None, ..kept.clone() },
        };
        self.effects.changes.push(Change::Answer(Box::new(written)));
        self.answers.insert(kept.of.clone(), kept);
        Once::Done(outcome)
    }

    fn forget_old_answers(&mut self, at: At) {
        let is_old = |kept: &KeptAnswer| at.unix_ms.saturating_sub(kept.at_ms) > ANSWERS_KEPT_MS;
        let mut old: Vec<AnswerKey> =
            self.answers.values().filter(|kept| is_old(kept)).map(|kept| kept.of.clone()).collect();
        if self.answers.len() - old.len() >= MAX_ANSWERS {
            let oldest = self.answers.values().min_by_key(|kept| kept.at_ms);
            old.extend(oldest.map(|kept| kept.of.clone()));
        }
        for of in old {
            self.answers.remove(&of);
            self.effects.changes.push(Change::ForgetAnswer(of));
        }
    }
}
