/**
 * Entries that are past retention may go, once an entry of the kind `closed` stands for them: `archived` says up to which one, and
 * `rollups` keeps what reports say of their calls, per quarter of an hour. Released: it never changes again.
 */
export const ARCHIVING = `
create table archived (
  id integer primary key check (id = 1),
  through_seq integer not null check (through_seq >= 0),
  hash text not null check (length(hash) = 64),
  until_ms integer not null,
  check_sum integer not null
) strict;

create table rollups (
  id integer primary key,
  through_seq integer not null,
  quarter_ms integer not null,
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
  calls integer not null check (calls >= 0),
  counted_calls integer not null check (counted_calls >= 0),
  denied integer not null check (denied >= 0),
  cost_nano_usd integer not null check (cost_nano_usd >= 0),
  uncached_input_tokens integer not null check (uncached_input_tokens >= 0),
  cache_read_tokens integer not null check (cache_read_tokens >= 0),
  cache_write_5m_tokens integer not null check (cache_write_5m_tokens >= 0),
  cache_write_1h_tokens integer not null check (cache_write_1h_tokens >= 0),
  output_tokens integer not null check (output_tokens >= 0),
  reasoning_output_tokens integer not null check (reasoning_output_tokens >= 0),
  check_sum integer not null
) strict;

create index rollups_by_quarter on rollups (quarter_ms);
create index rollups_by_closing on rollups (through_seq);
create index entries_closed on entries (seq) where kind = 'closed';

drop trigger entries_never_go;

create trigger entries_never_go before delete on entries
when old.seq > coalesce((select through_seq from archived where id = 1), 0) begin
  select raise(abort, 'entries go only once they are archived');
end;
`;
