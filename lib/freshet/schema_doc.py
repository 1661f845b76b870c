"""docs/tables.md from schema.py: `python -m freshet.schema_doc > docs/tables.md`."""

from __future__ import annotations

from freshet.schema import REASONS, RECOMMENDATIONS, TABLES, Table

INTRODUCTION = """# The tables

Every table is a plain Delta table (reader version 1, writer version at most 4) in its own folder under `store.root`, so
Spark, delta-rs, DuckDB, Polars and Trino read it. Times are UTC. This page is made from `lib/freshet/schema.py`:
`python -m freshet.schema_doc > docs/tables.md`.

A row with a `commit_id` exists only if a live row of `snapshots` has the same `commit_id`: rows of an attempt that died
are nobody's. A snapshot row is void when some row has the same or a lower version and a higher epoch (another learner
took over), or the same version and epoch and a smaller commit id. `freshet sql` shows only what is committed.

## The state at a version, in any engine

The path of a version says which branches it stands on. For a model that was never rolled back and never trimmed by
maintenance that is `main` alone, with the whole log, and
the state at version v is the newest committed row of every block and key up to v:

```sql
select p.* from parameters p
join snapshots s on s.commit_id = p.commit_id and s.version <= :v
qualify row_number() over (partition by p.block, p.key order by p.snapshot_version desc) = 1
```

## What the rows hold, block by block

Keys of users and items are those of `ids`; times are `last_event_at`, to which decayed numbers are decayed.

| block | learned by | key | vector | links |
|---|---|---|---|---|
| `popularity` | every model | item | decayed count and sum of values; `blend`: the count by each half-life of `popularity.also` | |
| `totals` | every model | 0 | the same of all items together | |
| `history` | every model | user | | newest items, the newest last, at most 32 |
| `history_archive` | every model | hash of user and place | | the user, then 16 older items |
| `window` | every model | place in a ring | | 32 items of recent positive events |
| `user` | `bpr`, `mf`, `rating`, `biases`, `fm`, `linear` | user | bias (`linear`, `biases`: no more), factors; `bpr`: factors | |
| `item` | all but `cooccurrence` | item | bias (`linear`, `biases`: no more), factors; `history`, `blend`: of an item to come | |
| `base` | `fm`, `linear` | 0 | what every score begins with | |
| `mean` | `mf`, `rating`, `biases` | 0 | mean of the values; but for `mf` their variance too | |
| `past` | `history`, `blend` | item | factors of the item as one the user had | |
| `neighbours` | `cooccurrence`, `blend` | item | sum of counts, then that of each link | taken after it, or before it |
| `feature` | `history`, `blend`, `fm`, `linear` with a context | column=value | factors; `fm`: bias first; `linear`: bias | |
| `attribute` | all of these with `model.features.items` | column=value | bias, factors (`linear`, `biases`: bias) | |
| `item_attributes` | every model with `model.features.items` | item | | its attributes |
| `last_context` | every model with `model.features.context` | user | | features of the newest event, 0 for none |
| `interest` | `history`, `blend` with `model.query.also` | choice | NDCG, events, decay, events a group begins with | |
| `segment` | every model with `popularity.segment` | column=value | decayed counts: sum, then each link | what is popular there |
| `mix` | `blend` | choice | NDCG, events, weights of history, cooccurrence, popularity, half-life in seconds (0: never) | |

Slots of `rating` and `biases` say how many values a row's knowledge is worth: slot 0 that of the bias, slot 1 that of the
factors. So an item's bias is known to about `sqrt(noise / (1 / 0.33 + slots[0]))`, with `model.kalman.item` at .33 and the
sequential `rmse` squared as the noise.

Which mix leads, and what is taken after an item, in the SQL of `freshet sql`:

```sql
select key, vector[0] / vector[1] as ndcg, slice(vector, 3, 4) as weights
from parameters where block = 'mix' order by ndcg desc limit 3

with followers as (
  select posexplode(links) as (place, key), vector
  from parameters where block = 'neighbours' and key = xxhash64('i42')
)
select natural_id, vector[place + 1] as count
from followers join ids using (key) where block = 'item' order by count desc limit 10
```

## The digest of a state

The digest of a row is Spark's `xxhash64` of its columns in this order; the digest of a state is the XOR over its rows:

```sql
select lpad(lower(hex(bit_xor(xxhash64(block, key, vector, slots, links, count, last_event_at)))), 16, '0')
from parameters -- the view of `freshet sql`: the state, deleted rows left out
```

The hash is XXH64 chained from column to column: it starts with seed 42, each value is hashed with the result so far as
its seed, an array value by value, a float by its bits (-0.0 as 0), a time as its microseconds, and null changes nothing.
"""


def markdown() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(section(table) for table in TABLES.values())


def section(table: Table) -> str:
    """One table as a heading, a sentence and a table of columns."""
    lines = [f"\n## {table.name}\n", f"One row is {table.row}.\n", "| column | type | meaning |", "|---|---|---|"]
    for column in table.columns:
        kind = column.type.replace("|", "\\|") + ("" if column.required else ", may be null")
        lines.append(f"| `{column.name}` | {kind} | {column.comment} |")
    if table is RECOMMENDATIONS:
        lines += ["\nThe reason is the first of these that is true of the place:\n", "| reason | what it says |", "|---|---|"]
        lines += [f"| `{name}` | {why} |" for name, why in REASONS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
