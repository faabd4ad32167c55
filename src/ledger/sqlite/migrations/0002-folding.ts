/**
 * Projections are folded from the entries some thousand entries at a time instead of being written with each of them: `folded` says up
 * to which entry they hold, `unfolded_states` keeps what no entry says of a scope value until then. Calls carry what was reserved for
 * them and how much they passed it by. Released: it never changes again.
 */
export const FOLDING = `
create table folded (
  id integer primary key check (id = 1),
  seq integer not null check (seq >= 0),
  check_sum integer not null
) strict;

insert into folded (id, seq, check_sum)
  select 1, head, purser_check_sum('folded', 1, head) from (select coalesce(max(seq), 0) as head from entries);

create table unfolded_states (
  scope_key text primary key,
  rest text not null,
  check_sum integer not null
) strict, without rowid;

drop trigger entries_never_change;
drop trigger entries_never_go;
drop index entries_alerts;
alter table entries rename to entries_before;

create table entries (
  seq integer primary key,
  kind text not null check (
    kind in ('reserved', 'renewed', 'settled', 'voided', 'expired', 'denied', 'alert', 'filled', 'adjusted', 'closed')
  ),
  call_id text not null,
  at_ms integer not null,
  cost_nano_usd integer check (cost_nano_usd >= 0),
  charges text not null,
  body text not null,
  hash blob not null check (length(hash) = 32)
) strict;

insert into entries select seq, kind, call_id, at_ms, cost_nano_usd, charges, body, hash from entries_before order by seq;
drop table entries_before;

create index entries_alerts on entries (seq) where kind = 'alert';

create trigger entries_never_change before update on entries begin
  select raise(abort, 'entries are only ever added');
end;

create trigger entries_never_go before delete on entries begin
  select raise(abort, 'entries are only ever added');
end;

drop index calls_by_start;
drop index calls_by_session;
alter table calls rename to calls_before;

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
  reserved_nano_usd integer check (reserved_nano_usd >= 0),
  overrun_nano_usd integer not null check (overrun_nano_usd >= 0),
  check_sum integer not null
) strict;

insert into calls
  with amounts as (
    select calls_before.position as id,
      case when status = 'denied' then null else cast(began.body ->> '$.decision.usdBound.#' as integer) end as reserved,
      coalesce(cast(ended.body ->> '$.overrunNanoUsd.#' as integer), 0) as overrun
    from calls_before
    join entries as began on began.seq = calls_before.position
    join entries as ended on ended.seq = calls_before.end_seq
  )
  select position, call_id, status, started_at_ms, end_seq, project, agent, session, parent_sessions, user, key, task, tags,
    reported_user, reported_tags, model, cost_nano_usd, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, output_tokens, reasoning_output_tokens, counted, reserved, overrun,
    purser_check_sum('calls', position, call_id, status, started_at_ms, end_seq, project, agent, session, parent_sessions, user, key, task, tags,
    reported_user, reported_tags, model, cost_nano_usd, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, output_tokens, reasoning_output_tokens, counted, reserved, overrun)
  from calls_before join amounts on amounts.id = position
  order by position;
drop table calls_before;

create index calls_by_start on calls (started_at_ms);
create index calls_by_session on calls (session, position);
`;
