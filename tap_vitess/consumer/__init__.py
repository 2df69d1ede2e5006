"""The library's three levels, over the tap's engine; `tap_vitess.vstream` has their public names.

    connection.py  where a Vitess is: the settings of a consumer, made a Config
    raw.py         level 1: a VStream's events
    events.py      its events as frozen objects, made of VEvents                         pure
    changes.py     level 2: tables in, changes and boundaries out
    decoding.py    a table's rows as changes, with Python's own objects
    start.py       a state to start from without a copy
    consume.py     level 3: batches to a function of the caller's, the state stored behind them
    mapping.py     rows as the caller's own classes                                      pure
    batches.py     when a batch is full                                                  pure
    stores.py      where a state is kept
    signals.py     SIGTERM and SIGINT as an order to stop

Level 3 stands on level 2 alone. Level 2 is a front end over `sync.py`, as `tap.py` and
`airbyte/read.py` are, and level 1 one over `vstream/client.py` and `vstream/reader.py`. Nothing
here imports the Singer SDK, and nothing in `tap_vitess/vstream/` but its list of public names
imports from here.
"""
