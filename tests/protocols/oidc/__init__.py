"""Single sign-on against a real provider and against an evil one."""
