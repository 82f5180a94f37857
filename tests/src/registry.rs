//! A real registry of a test's own, on loopback; filled by skopeo, so that no tag is left in the engine.

use serde_json::json;

use crate::docker;
use crate::inside::{Inside, setup};

/// The media type of Docker's manifests, to be ended by form and version.
const MANIFEST: &str = "application/vnd.docker.distribution.manifest";

/// A running registry. Dropped, it ends, and what the machine's engine pulled from it goes: drop what runs it first.
#[derive(Debug)]
pub struct Registry {
    dir: tempfile::TempDir,
    inside: Inside,
    address: String,
    account: Option<String>,
}

impl Registry {
    /// One that answers everybody.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Inside::default(), None)
    }

    /// One that wants `USER:PASSWORD`.
    #[must_use]
    pub fn start_with_account(account: &str) -> Self {
        Self::start_with(Inside::default(), Some(account))
    }

    /// One in a private engine's network.
    #[must_use]
    pub fn start_inside(inside: Inside) -> Self {
        Self::start_with(inside, None)
    }

    fn start_with(inside: Inside, account: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().to_string_lossy().into_owned();
        let mut args = vec!["start", &path, "0"];
        args.extend(account);
        let address = inside.run(setup("registry.sh"), &args);
        Self { dir, inside, address, account: account.map(str::to_owned) }
    }

    /// Ends it; its data stays.
    pub fn stop(&self) {
        self.inside.run(setup("registry.sh"), &["stop", &self.path()]);
    }

    /// Starts it again on the same port, without an account.
    pub fn start_again(&self) {
        let (_, port) = self.address.rsplit_once(':').expect("an address has a port");
        self.inside.run(setup("registry.sh"), &["start", &self.path(), port]);
    }

    fn path(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The reference of `name:tag` there.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Copies a local image there as `name:tag` and gives its reference.
    #[track_caller]
    pub fn push(&self, local: &str, name: &str) -> String {
        self.copy(&format!("docker-daemon:{local}"), name)
    }

    #[track_caller]
    fn copy(&self, from: &str, name: &str) -> String {
        let to = format!("docker://{}", self.image(name));
        let options = ["--quiet", "--dest-tls-verify=false"];
        self.skopeo("copy", &options, "--dest-creds", &[from, &to]);
        self.image(name)
    }

    /// As [`Registry::push`], with another architecture written into the image's configuration.
    ///
    /// # Panics
    /// When one of the tools fails.
    #[track_caller]
    pub fn push_for(&self, architecture: &str, local: &str, name: &str) -> String {
        let dir = tempfile::tempdir_in(&self.dir).expect("a temporary folder");
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let (saved, changed, folder) = (path("saved.tar"), path("changed.tar"), path("image"));
        std::fs::create_dir(&folder).expect("a folder can be made");
        let _ = docker::docker(&["save", "-o", &saved, local]);
        self.inside.run("tar", &["-xf", &saved, "-C", &folder]);
        let files = std::fs::read_dir(&folder).expect("the folder is there").flatten();
        for file in files.map(|file| file.path()) {
            let is_config =
                file.extension().is_some_and(|e| e == "json") && !file.ends_with("manifest.json");
            if is_config {
                let text = std::fs::read_to_string(&file).expect("the configuration can be read");
                let other = format!("\"architecture\":\"{architecture}\"");
                let text = text.replace("\"architecture\":\"amd64\"", &other);
                assert!(text.contains(&other), "{text}");
                std::fs::write(&file, text).expect("the configuration can be written");
            }
        }
        self.inside.run("tar", &["-cf", &changed, "-C", &folder, "."]);
        self.copy(&format!("docker-archive:{changed}"), name)
    }

    /// Makes an image of so many megabytes that nothing compresses, as `name:tag`; it cannot be started.
    ///
    /// # Panics
    /// When one of the tools fails.
    #[track_caller]
    pub fn push_bytes(&self, megabytes: u32, name: &str) -> String {
        let dir = tempfile::tempdir_in(&self.dir).expect("a temporary folder");
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let (bytes, layer) = (path("bytes"), path("layer.tar"));
        let (out, count) = (format!("of={bytes}"), format!("count={megabytes}"));
        self.inside.run("dd", &["if=/dev/urandom", &out, "bs=1M", &count, "status=none"]);
        self.inside.run("tar", &["-cf", &layer, "-C", &path(""), "bytes"]);
        let image = docker::docker(&["import", &layer]);
        let reference = self.copy(&format!("docker-daemon:{image}"), name);
        let _ = docker::docker(&["rmi", &image]);
        reference
    }

    /// The digest that `name:tag` stands for.
    #[must_use]
    #[track_caller]
    pub fn digest(&self, name: &str) -> String {
        let from = format!("docker://{}", self.image(name));
        let options = ["--tls-verify=false", "--no-tags", "--format", "{{.Digest}}"];
        self.skopeo("inspect", &options, "--creds", &[&from])
    }

    /// Compressed bytes of the image `name:tag`: its configuration and its layers.
    ///
    /// # Panics
    /// When it is no single image.
    #[must_use]
    #[track_caller]
    pub fn bytes(&self, name: &str) -> u64 {
        let manifest = self.manifest(name);
        let layers = manifest["layers"].as_array().expect("an image has layers").iter();
        let parts = layers.chain([&manifest["config"]]);
        parts.map(|part| part["size"].as_u64().expect("a size")).sum()
    }

    #[track_caller]
    fn manifest(&self, name: &str) -> serde_json::Value {
        let from = format!("docker://{}", self.image(name));
        let text = self.skopeo("inspect", &["--tls-verify=false", "--raw"], "--creds", &[&from]);
        serde_json::from_str(&text).expect("a manifest")
    }

    /// The digest of the first layer of `name:tag`.
    ///
    /// # Panics
    /// When it is no single image.
    #[must_use]
    #[track_caller]
    pub fn first_layer(&self, name: &str) -> String {
        let manifest = self.manifest(name);
        manifest["layers"][0]["digest"].as_str().expect("an image has layers").to_owned()
    }

    /// Serves under `digest` the bytes of `other` from now on, as whoever owns a registry can.
    ///
    /// # Panics
    /// When it does not keep both.
    #[track_caller]
    pub fn swap(&self, digest: &str, other: &str) {
        let path = |digest: &str| {
            let hex = digest.strip_prefix("sha256:").expect("a digest of sha256");
            let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
            blobs.join(&hex[..2]).join(hex).join("data")
        };
        assert!(path(digest).is_file(), "{digest} is not here");
        std::fs::copy(path(other), path(digest)).expect("both are kept");
    }

    /// Deletes the manifest behind `name:tag`.
    #[track_caller]
    pub fn delete(&self, name: &str) {
        let from = format!("docker://{}", self.image(name));
        self.skopeo("delete", &["--tls-verify=false"], "--creds", &[&from]);
    }

    /// Writes `name:index` as an index whose only variant is `name:tag`, for `architecture`.
    #[track_caller]
    pub fn push_index(&self, name: &str, tag: &str, architecture: &str) -> String {
        let digest = self.digest(&format!("{name}:{tag}"));
        let url = |tag: &str| format!("http://{}/v2/{name}/manifests/{tag}", self.address);
        let (list, kind) = (format!("{MANIFEST}.list.v2+json"), format!("{MANIFEST}.v2+json"));
        let (accept, from) = (format!("accept: {kind}"), url(tag));
        let wanted = ["-fsS", "-o", "/dev/null", "-w", "%{size_download}", "-H", &accept, &from];
        let size: u64 = self.inside.run("curl", &wanted).parse().expect("curl prints a number");
        let platform = json!({ "architecture": architecture, "os": "linux" });
        let entry =
            json!({ "mediaType": kind, "size": size, "digest": digest, "platform": platform });
        let index =
            json!({ "schemaVersion": 2, "mediaType": list, "manifests": [entry] }).to_string();
        let (header, to) = (format!("content-type: {list}"), url("index"));
        let put = ["-fsS", "-X", "PUT", "-H", &header, "--data-binary", &index, &to];
        self.inside.run("curl", &put);
        self.image(&format!("{name}:index"))
    }

    #[track_caller]
    fn skopeo(&self, verb: &str, options: &[&str], login: &str, last: &[&str]) -> String {
        // Debian's skopeo comes without the policy that it asks for.
        let mut args = vec!["--insecure-policy", verb];
        args.extend(options);
        if let Some(account) = &self.account {
            args.extend([login, account.as_str()]);
        }
        args.extend(last);
        self.inside.run("skopeo", &args)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let stop = &mut self.inside.command(setup("registry.sh"));
        let _ = stop.args(["stop", &self.path()]).status();
        docker::remove_images(&format!("{}/*", self.address));
        docker::remove_images(&format!("{}/*/*", self.address));
    }
}
