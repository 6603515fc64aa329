"""Settings: every documented form is understood as its own library understands it, or refused by name."""

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url

from shared import settings
from shared.postgres import engine
from shared.settings import SettingsError


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:p%40ss@db.example:5433/mail?sslmode=require",
        "postgres://db.example/mail",
        "postgresql://one:5433,two:5434/mail?target_session_attrs=read-write",
        "postgresql://ann@one,two/mail",
        "postgresql:///mail?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/mail",
        "postgresql:///mail?host=/var/run/postgresql&port=5433",
        "postgresql://ann@[::1]:5433/mail",
        "postgresql://db.example/mail?ssl=true",
        "host=db.example port=5433 user=ann password='p w' dbname=mail",
    ],
)
def test_a_database_url_means_what_it_means_to_libpq(url: str) -> None:
    read = settings.read({"TIDINGS_DATABASE_URL": url}).database_url
    _, arguments = PGDialect_psycopg().create_connect_args(make_url(read).set(drivername="postgresql+psycopg"))
    wanted = {name: str(value).strip(",") for name, value in conninfo_to_dict(url).items()}
    assert {name: str(value).strip(",") for name, value in arguments.items() if value} == wanted


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("TIDINGS_DATABASE_URL", "mysql://ann:hunter2@h/d", "has the scheme 'mysql'"),
        ("TIDINGS_DATABASE_URL", "postgresql://ann:hunter2@h/d?sslmod=require", '"sslmod"'),
        ("TIDINGS_DATABASE_URL", "postgresql://ann:hunter2@h:x/d", "invalid port"),
        ("TIDINGS_DATABASE_URL", "ann:hunter2", "is not a valid URL"),
        ("TIDINGS_BROKER_URL", "memory://", "Redis or RabbitMQ"),
        ("TIDINGS_BROKER_URL", "filesystem://", "Redis or RabbitMQ"),
        ("TIDINGS_BROKER_URL", "redis://a;kafka://b", "has the scheme 'kafka'"),
        ("TIDINGS_BROKER_URL", "sentinel://a;sentinel://b", "has the scheme 'sentinel'"),
        ("TIDINGS_BROKER_URL", "redis://:hunter2@h:x/0", "its port, database or an option"),
        ("TIDINGS_BROKER_URL", "redis://:/hunter2@h/0", "its port, database or an option"),
        ("TIDINGS_BROKER_URL", "redis://a/0;redis://:hunter2@h/main", "its port, database or an option"),
        ("TIDINGS_BROKER_URL", "rediss://:hunter2@h?ssl_cert_reqs=some", "its port, database or an option"),
        ("TIDINGS_BROKER_URL", "redis://:hunter2@h?database=1", "its port, database or an option"),
        ("TIDINGS_BROKER_URL", "librabbitmq://ann:hunter2@h", "a package is missing"),
        ("TIDINGS_BROKER_URL", "amqp://ann:hunter2@h:99999//", "its port, database or an option"),
        ("TIDINGS_RETENTION_DAY", "3", "Did you mean 'TIDINGS_RETENTION_DAYS'?"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_without_its_password(name: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings.read({name: value})
    assert name in str(raised.value)
    assert sentence in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p@h:6379/1",
        "rediss://h?ssl_cert_reqs=CERT_REQUIRED",
        "redis+socket:///run/redis.sock?virtual_host=1",
        "amqp://h//",
        "amqps://a;amqps://b/mail?heartbeat=10",
    ],
)
def test_a_broker_url_is_taken_as_celery_documents_it(url: str) -> None:
    assert settings.read({"TIDINGS_BROKER_URL": url}).broker_url == url


def test_what_a_database_url_sets_is_not_overwritten(database_url: str) -> None:
    options = "options=-c%20statement_timeout%3D1234&application_name=mine"
    made = engine.create_engine(f"{database_url}?{options}", application="test")
    with made.connect() as connection:
        shown = [
            connection.execute(text(f"SHOW {name}")).scalar() for name in ("statement_timeout", "application_name")
        ]
        assert connection.execute(text("SHOW timezone")).scalar() == "UTC"
    made.dispose()
    assert shown == ["1234ms", "mine"]
