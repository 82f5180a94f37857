//! How typical mistakes in a service file read.

use std::fmt::Write as _;

use crate::golden::golden;

const MISTAKES: &[(&str, &str)] = &[
    ("an unknown key", "name = \"web\"\nreplcas = 4\n"),
    ("an unknown key deep down", "name = \"web\"\n[rollout]\nmax_srge = 1\nbananas = 2\n"),
    ("a word of Compose", "name = \"web\"\nenvironment = { A = \"b\" }\nrestart = \"always\"\n"),
    (
        "a wrong type",
        "name = \"web\"\nreplicas = \"four\"\nenv = { PORT = 8080 }\ninit = \"yes\"\n",
    ),
    ("a bad duration", "name = \"web\"\nstop_grace = \"10 sec\"\n[rollout]\ndrain = 30\n"),
    (
        "bad quantities",
        "name = \"web\"\n[resources]\nrequests = { memory = \"1Gi\", cpu = \"1\" }\n\
         limits = { memory = \"512Mi\", cpu = \"lots\" }\n",
    ),
    ("no name", "replicas = 2\n"),
    ("a bad name", "name = \"Web_Server\"\n"),
    ("not TOML", "name = \"web\nreplicas = 2\n"),
    ("a key twice", "name = \"web\"\nname = \"wob\"\n"),
    (
        "a port twice",
        "name = \"web\"\n[[ports]]\nname = \"a\"\nlisten = 80\ntarget = 80\n\
         [[ports]]\nname = \"a\"\nlisten = \"127.0.0.1:80\"\ntarget = 80\n",
    ),
    ("ports gone wrong", "name = \"web\"\n[[ports]]\nlisten = 70000\nprotocol = \"htp\"\n"),
    ("itself as dependency", "name = \"web\"\ndepends_on = [\"db\", \"web\"]\n"),
    ("two counts", "name = \"web\"\nreplicas = 2\nper_node = 1\n"),
    (
        "budgets that allow nothing",
        "name = \"web\"\n[rollout]\nmax_surge = 0\nmax_unavailable = \"0%\"\nbatch = \"150%\"\n",
    ),
    (
        "a deadline too short",
        "name = \"web\"\n[rollout]\nmin_ready = \"1m\"\nprogress_deadline = \"30s\"\n",
    ),
    (
        "probes",
        "name = \"web\"\n[health.liveness]\nhttp = { path = \"live\" }\nperiod = \"0s\"\n\
         success_threshold = 2\n[health.readiness]\nperiod = \"1s\"\n[health.startup]\n\
         tcp = { port = 1 }\nexec = [\"a\"]\n",
    ),
    (
        "not supported yet",
        "name = \"web\"\n[[ports]]\ntarget = 53\nprotocol = \"udp\"\n[placement]\nspread = \"zone\"\n\
         [scale]\nmax = 3\n",
    ),
    (
        "what only a node's policy allows",
        "name = \"web\"\nprivileged = \"yes\"\ncap_add = [\"NET_ADMIM\"]\nnetwork = \"bridge\"\n\
         devices = [\"/dev/fuse\"]\n[[volumes]]\nname = \"/srv/data\"\npath = \"/data\"\n\
         [[volumes]]\nname = \"a\"\nhost = \"/srv\"\npath = \"/srv\"\n\
         [[volumes]]\nhost = \"/srv/../etc\"\npath = \"/etc\"\n",
    ),
    (
        "devices gone wrong",
        "name = \"web\"\ncap_add = [\"NET_RAW\"]\ncap_drop = [\"NET_RAW\"]\n[[devices]]\npath = \"/sys/x\"\n\
         [[devices]]\npath = \"/dev/fuse\"\npermissions = \"rwx\"\n[[devices]]\ntarget = \"/dev/a\"\n\
         [[devices]]\npath = \"/dev/a\"\n[[devices]]\npath = \"/dev/b\"\ntarget = \"/dev/a\"\n",
    ),
    (
        "ports in the node's network",
        "name = \"web\"\nnetwork = \"host\"\n[[ports]]\ntarget = 80\n[rollout]\nstrategy = \"blue-green\"\n",
    ),
    (
        "blue-green beside its one writer of a host path",
        "name = \"db\"\n[[volumes]]\nhost = \"/srv\"\npath = \"/data\"\n[rollout]\nstrategy = \"blue-green\"\n",
    ),
    (
        "a canary gone wrong",
        "name = \"web\"\n[rollout]\nstrategy = \"canary\"\npreview_port = 1\ncanary_nodes = 0\n\
         [[rollout.steps]]\nweight = 50\nhold = \"forever\"\n[[rollout.steps]]\nweight = 10\n\
         [[rollout.steps]]\nhold = \"manual\"\n[rollout.analysis]\nmax_error_rate = 5\nthreshold = 1\n\
         [rollout.cohort]\ncookie = \"a b\"\n",
    ),
    ("a canary without steps", "name = \"web\"\n[rollout]\nstrategy = \"canary\"\n"),
    (
        "blue-green beside its one writer",
        "name = \"db\"\n[[volumes]]\nname = \"data\"\npath = \"/data\"\n[rollout]\nstrategy = \"blue-green\"\n",
    ),
    (
        "an overlay gone wrong",
        "name = \"web\"\nreplicas = 2\n[environments.staging]\nimage = \"b\"\nreplica = 1\n\
         [environments.Production]\nper_node = 1\n",
    ),
    (
        "hooks",
        "name = \"web\"\n[hooks.pre_deploy]\nimage = \"b\"\ntimeout = \"0s\"\n[hooks.post]\n",
    ),
    (
        "mounts",
        "name = \"web\"\ntmpfs = [\"/run:rw\", \"tmp\"]\n[[volumes]]\nname = \"a\"\npath = \"data\"\n\
         [[volumes]]\nname = \"b\"\npath = \"/data\"\n[[volumes]]\nname = \"c\"\npath = \"/data/\"\n",
    ),
    (
        "the process",
        "name = \"web\"\ncommand = \"sleep 60\"\nentrypoint = []\nuser = \"a b\"\n\
         working_dir = \"srv\"\ncap_drop = [\"NET_RAWW\"]\nulimits = { nofiles = 1 }\n\
         labels = { \"io.pith.node\" = \"x\" }\nenv = { \"1A\" = \"x\" }\nimage = \"a b\"\n",
    ),
    (
        "archives gone wrong",
        "name = \"web\"\nimage = \"web:v1\"\n[source]\narchive = \"ftp://a/b\"\nsha256 = \"abc\"\nurl = 1\n\
         [environments.staging.source]\narchive = \"x\"\n",
    ),
    ("an archive without its sha256", "name = \"web\"\n[source]\narchive = \"https://a/b.tar\"\n"),
];

const POLICY_MISTAKES: &[(&str, &str)] = &[
    ("an unknown key", "privileged = true\nhost_path = [\"/mnt\"]\nvolumes = []\n"),
    ("wrong types", "privileged = \"no\"\ndevices = \"/dev/fuse\"\nhost_paths = [1]\n"),
    (
        "values",
        "host_paths = [\"mnt\", \"/mnt/../etc\", \"/mnt/*\"]\ndevices = [\"/sys/a\"]\ncapabilities = [\"NET_ADMIM\"]\n",
    ),
    ("services", "[services.Web]\nexec = true\n[services.web]\nservices = {}\n"),
    ("not TOML", "privileged = yes\n"),
];

#[test]
fn mistakes_in_a_policy_are_explained_as_they_always_were() {
    let mut now = String::new();
    for (title, text) in POLICY_MISTAKES {
        let error = protocol::file::parse_policy("policy.toml", text).expect_err(title);
        let _ = write!(now, "### {title}\n{error}\n\n");
    }
    let then = golden("policy-mistakes.txt", now.as_bytes());
    assert_eq!(now, String::from_utf8_lossy(&then), "delete policy-mistakes.txt to write it anew");
}

#[test]
fn mistakes_are_explained_as_they_always_were() {
    let mut now = String::new();
    for (title, text) in MISTAKES {
        let error = protocol::file::parse("web.toml", text).expect_err(title);
        let _ = write!(now, "### {title}\n{error}\n\n");
    }
    let then = golden("mistakes.txt", now.as_bytes());
    assert_eq!(now, String::from_utf8_lossy(&then), "delete mistakes.txt to write it anew");
}
