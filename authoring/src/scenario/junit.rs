//! Results for a build server.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::run::Ran;

/// The scenarios of a file, and how long each took.
#[derive(Debug)]
pub struct Suite<'r> {
    /// The file's name.
    pub name: &'r str,
    /// What came of each.
    pub ran: Vec<(&'r Ran, Duration)>,
}

/// The results as JUnit XML.
///
/// # Errors
/// If they cannot be written as XML.
pub fn junit<'r>(suites: impl IntoIterator<Item = Suite<'r>>) -> Result<String, SerializeError> {
    let mut report = Report::new("pled test");
    for Suite { name, ran } in suites {
        let mut suite = TestSuite::new(name);
        for (ran, took) in ran {
            let status = if ran.passed() {
                TestCaseStatus::success()
            } else {
                let texts = ran.differences.iter().map(|difference| {
                    format!(
                        "line {}, after {}: {}",
                        difference.line,
                        difference.after,
                        difference.text()
                    )
                });
                let texts: Vec<_> = texts.collect();
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(texts.first().cloned().unwrap_or_default());
                status.set_description(texts.join("\n"));
                status
            };
            let mut case = TestCase::new(ran.name.as_str(), status);
            case.set_classname(name);
            case.set_time(took);
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report.to_string()
}
