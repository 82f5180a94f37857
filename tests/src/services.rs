//! Service files of the demo application.

use std::fmt::Write as _;

/// A service file of the demo application, written key by key.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    image: String,
    port: u16,
    scheduling: String,
    env: Vec<(String, String)>,
    rollout: Vec<String>,
    extra: String,
    health: String,
}

impl Service {
    /// One instance per node of `pith-demo:v1`, open on `port`, ready as soon as it answers.
    #[must_use]
    pub fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            image: "pith-demo:v1".to_owned(),
            port,
            scheduling: "per_node = 1".to_owned(),
            env: Vec::new(),
            rollout: vec!["progress_deadline = \"10s\"".to_owned(), "drain = \"3s\"".to_owned()],
            extra: String::new(),
            health: "http = { path = \"/ready\", port = 8080 }\nperiod = \"1s\"".to_owned(),
        }
    }

    /// Another image.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    /// `per_node = 2` or `replicas = 4`.
    #[must_use]
    pub fn scheduling(mut self, line: &str) -> Self {
        line.clone_into(&mut self.scheduling);
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// One more line under `[rollout]`; a key given again replaces the first.
    #[must_use]
    pub fn rollout(mut self, line: &str) -> Self {
        let key = line.split('=').next().unwrap_or_default().trim().to_owned();
        self.rollout.retain(|other| other.split('=').next().unwrap_or_default().trim() != key);
        self.rollout.push(line.to_owned());
        self
    }

    /// More TOML at the end of the file.
    #[must_use]
    pub fn extra(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self.extra.push('\n');
        self
    }

    /// The file's text.
    #[must_use]
    pub fn toml(&self) -> String {
        let Self { name, image, port, scheduling, health, extra, .. } = self;
        let mut text =
            format!("name = \"{name}\"\nimage = \"{image}\"\n{scheduling}\nstop_grace = \"5s\"\n");
        let env: Vec<String> = self.env.iter().map(|(k, v)| format!("{k} = \"{v}\"")).collect();
        let _ = writeln!(text, "env = {{ {} }}", env.join(", "));
        let _ = write!(text, "\n[[ports]]\nname = \"http\"\nlisten = {port}\ntarget = 8080\n");
        let _ = write!(text, "\n[health.readiness]\n{health}\n");
        let _ = write!(text, "\n[rollout]\n{}\n\n{extra}", self.rollout.join("\n"));
        text
    }
}
