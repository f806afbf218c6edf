//! Persistence on sqlx: embedded SQLite or PostgreSQL
