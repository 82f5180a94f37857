//! Sentences of real daemons and registries, and the kinds they become.

use super::*;

const DIGEST: &str = "sha256:6e91b2413f0f27f40098ef269c268383c2fb4520dd17353dd8276f4b1f9113e3";

type Kind = fn(String) -> EngineError;

#[test]
fn refusals_of_calls_become_kinds() {
    let cases: [(u16, &str, Kind); 14] = [
        (404, "No such container: abc", EngineError::NotFound),
        (409, "Conflict. The container name \"/web\" is already in use", EngineError::Conflict),
        (409, "Container abc is not running", EngineError::Conflict),
        (403, "Address already in use", EngineError::AddressTaken),
        (403, "Pool overlaps with other one on this address space", EngineError::AddressTaken),
        (
            500,
            "driver failed programming external connectivity on endpoint web: Error starting userland proxy: \
             listen tcp4 127.0.0.1:80: bind: address already in use",
            EngineError::PortTaken,
        ),
        (500, "Bind for 0.0.0.0:80 failed: port is already allocated", EngineError::PortTaken),
        (500, "mkdir /var/lib/docker/x: no space left on device", EngineError::NoSpace),
        (
            400,
            "OCI runtime create failed: standard_init_linux.go:228: exec user process caused: exec format error",
            EngineError::WrongPlatform,
        ),
        (400, "Minimum memory limit allowed is 6MB", EngineError::BadRequest),
        (
            500,
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
             process: exec: \"/nope\": stat /nope: no such file or directory: unknown",
            EngineError::BadRequest,
        ),
        (
            403,
            "error while removing network: network n id 1 has active endpoints",
            EngineError::Conflict,
        ),
        (
            500,
            "dial unix /run/containerd/containerd.sock: connect: connection refused",
            EngineError::Unavailable,
        ),
        (500, "something else", EngineError::Other),
    ];
    for (status, message, kind) in cases {
        assert_eq!(by_answer(status, message), kind(message.to_owned()), "{status} {message}");
    }
}

#[test]
fn refusals_of_pulls_become_kinds() {
    let manifest = format!("http://127.0.0.1:5000/v2/web/manifests/{DIGEST}");
    let cases = [
        (
            format!("manifest for 127.0.0.1:5000/web@{DIGEST} not found: manifest unknown: manifest unknown"),
            PullError::NotFound,
        ),
        (format!("Get \"{manifest}\": no basic auth credentials"), PullError::Denied),
        ("unauthorized: authentication required".to_owned(), PullError::Denied),
        (
            "pull access denied for web, repository does not exist or may require 'docker login': denied: \
             requested access to the resource is denied"
                .to_owned(),
            PullError::Denied,
        ),
        (
            "no matching manifest for linux/amd64 in the manifest list entries".to_owned(),
            PullError::WrongPlatform,
        ),
        (
            "failed to register layer: Error processing tar file(exit status 1): write /big: no space left on device"
                .to_owned(),
            PullError::NoSpace,
        ),
        (
            "Get \"https://10.0.0.2:5000/v2/\": http: server gave HTTP response to HTTPS client".to_owned(),
            PullError::HttpRegistry,
        ),
        (
            "Get \"http://127.0.0.1:5999/v2/\": dial tcp 127.0.0.1:5999: connect: connection refused".to_owned(),
            PullError::Unreachable,
        ),
        (
            "Get \"https://registry.invalid:5000/v2/\": dial tcp: lookup registry.invalid on 10.0.0.1:53: no such host"
                .to_owned(),
            PullError::Unreachable,
        ),
        (
            "Get \"https://r.local/v2/\": net/http: TLS handshake timeout".to_owned(),
            PullError::Unreachable,
        ),
        (
            "Get \"https://r.local/v2/\": x509: certificate signed by unknown authority".to_owned(),
            PullError::Other,
        ),
        ("filesystem layer verification failed".to_owned(), PullError::Other),
    ];
    for (text, kind) in cases {
        assert_eq!(pull_kind(&text), kind, "{text}");
    }
}

#[test]
fn a_plain_http_registry_is_told_with_the_line_that_mends_it() {
    let error = ClientError::DockerResponseServerError {
        status_code: 500,
        message:
            "Get \"https://10.0.0.2:5000/v2/\": http: server gave HTTP response to HTTPS client"
                .to_owned(),
    };
    let (kind, message) = pull_error("10.0.0.2:5000/web:v1", &error);
    assert_eq!(kind, PullError::HttpRegistry);
    assert!(message.contains("\"insecure-registries\": [\"10.0.0.2:5000\"]"), "{message}");
}

#[test]
fn an_unknown_certificate_is_told_with_the_place_of_the_authority() {
    let text = "Get \"https://r.local/v2/\": x509: certificate signed by unknown authority";
    let message = pull_message(PullError::Other, "r.local/web:v1", text);
    assert!(message.contains("/etc/docker/certs.d/r.local/ca.crt"), "{message}");
}

#[test]
fn sentences_are_cut_and_carry_no_control_characters() {
    let text = cut(&format!("a\nb\u{1b}[31m{}", "ä".repeat(1_000)));
    assert!(text.len() <= MAX_MESSAGE_BYTES && text.starts_with("a b [31m"), "{text}");
}
