//! demo
pub async fn run(_dir: &std::path::Path, _json: bool) -> anyhow::Result<()> {
    Ok(())
}
