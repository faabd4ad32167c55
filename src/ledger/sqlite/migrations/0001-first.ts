/** The first schema. Released: it never changes again; what comes after is another migration. */
export const FIRST = `
create table entries (
  seq integer primary key,
  kind text not null
    check (kind in ('reserved', 'renewed', 'settled', 'voided', 'expired', 'denied', 'alert', 'filled')),
  call_id text not null,
  at_ms integer not null,
  cost_nano_usd integer check (cost_nano_usd >= 0),
  charges text not null,
  body text not null,
  hash blob not null check (length(hash) = 32)
) strict;

create index entries_alerts on entries (seq) where kind = 'alert';

create trigger entries_never_change before update on entries begin
  select raise(abort, 'entries are only ever added');
end;

create trigger entries_never_go before delete on entries begin
  select raise(abort, 'entries are only ever added');
end;

create table counters (
  scope_key text primary key,
  state text not null,
  check_sum integer not null
) strict, without rowid;

create table past_counters (
  scope_key text not null,
  what text not null,
  window_key text not null,
  until_ms integer not null,
  spent text not null,
  check_sum integer not null,
  primary key (scope_key, what, window_key)
) strict, without rowid;

create table open_calls (
  call_id text primary key,
  owner_id text not null,
  position integer not null,
  usd_bound integer check (usd_bound >= 0),
  input_tokens_bound integer not null check (input_tokens_bound >= 0),
  output_tokens_bound integer not null check (output_tokens_bound >= 0),
  charges text not null,
  check_sum integer not null
) strict, without rowid;

create table calls (
  position integer primary key,
  call_id text not null unique,
  status text not null check (status in ('settled', 'voided', 'expired', 'denied')),
  started_at_ms integer not null,
  end_seq integer not null,
  project text not null,
  agent text not null,
  session text not null,
  parent_sessions text not null,
  user text not null,
  key text not null,
  task text not null,
  tags text not null,
  reported_user text not null,
  reported_tags text not null,
  model text not null,
  cost_nano_usd integer check (cost_nano_usd >= 0),
  uncached_input_tokens integer not null check (uncached_input_tokens >= 0),
  cache_read_tokens integer not null check (cache_read_tokens >= 0),
  cache_write_5m_tokens integer not null check (cache_write_5m_tokens >= 0),
  cache_write_1h_tokens integer not null check (cache_write_1h_tokens >= 0),
  output_tokens integer not null check (output_tokens >= 0),
  reasoning_output_tokens integer not null check (reasoning_output_tokens >= 0),
  counted text,
  check_sum integer not null
) strict;

create index calls_by_start on calls (started_at_ms);
create index calls_by_session on calls (session, position);

create table configs (
  config_seq integer primary key,
  version text not null,
  at_ms integer not null,
  rules text not null,
  check_sum integer not null
) strict;

create table owners (
  owner_id text primary key,
  pid integer not null,
  process_start text not null,
  boot_id text not null,
  machine_id text not null,
  started_at_ms integer not null,
  beat_at_ms integer not null,
  check_sum integer not null
) strict, without rowid;

create table keys (
  key_id text primary key,
  secret_hash text not null unique,
  project text not null,
  agent text not null,
  allow text not null,
  created_at_ms integer not null,
  expires_at_ms integer,
  revoked_at_ms integer,
  check_sum integer not null
) strict, without rowid;
`;
