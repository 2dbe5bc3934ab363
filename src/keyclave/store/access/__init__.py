"""Who may do what, as rows: policies, approvals, people, sessions, workloads, grants; tables beside what reads them."""
