//! A person's text: it never panics, is read or explained, and what is read survives its journey as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::file::{check_together, parse};
use protocol::spec::ServiceSpec;

fuzz_target!(|text: &str| {
    match parse("web.toml", text) {
        Ok(file) => {
            let json = serde_json::to_vec(&file.spec).expect("a spec serialises");
            let read: ServiceSpec = serde_json::from_slice(&json).expect("and reads");
            assert_eq!(read, file.spec);
            for warning in &file.warnings {
                assert!(!warning.to_string().is_empty());
            }
            _ = check_together(&[&file, &file], &[&file.spec]).map_err(|error| error.to_string());
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            assert!(!error.to_string().is_empty());
            let lines = text.split('\n').count();
            assert!(error.problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }
});
