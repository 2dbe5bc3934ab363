"""Floor 6: what is kept. The schema and the records serve every engine; each engine has one file of its own."""
