"""The store: the only owner of tables, migrations, the journal and the log's files."""
