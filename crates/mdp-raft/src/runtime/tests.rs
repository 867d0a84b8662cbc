//! openraft's own tests of a runtime.

use super::Runtime;

#[test]
fn openraft_accepts_the_runtime() {
    openraft_rt::testing::Suite::<Runtime>::test_all();
}
