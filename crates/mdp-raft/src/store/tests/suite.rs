//! openraft's own tests of a store.

use openraft::{
    StorageError as OpenraftError,
    testing::log::{StoreBuilder, Suite},
};

use super::*;
use crate::{news, state_machine::StateMachine};

struct Builder;

impl StoreBuilder<TypeConfig<Tokio>, LogStore, StateMachine, TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogStore, StateMachine), OpenraftError<TypeConfig<Tokio>>> {
        let dir = directory();
        let opened = open(dir.path());
        let (state_machine, _) = StateMachine::new(opened.snapshots, news(|| {}).0).unwrap();
        Ok((dir, opened.log, state_machine))
    }
}

#[tokio::test]
async fn openraft_accepts_the_store() {
    Suite::test_all(Builder).await.unwrap();
}
