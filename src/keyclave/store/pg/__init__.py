"""What only PostgreSQL needs: its guards, its privileges, how it is reached and what is asked of it before it is used."""
