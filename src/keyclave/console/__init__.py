"""The pages for people: enrolment, login, approvals, one's own account. They show and ask; operations decide."""
