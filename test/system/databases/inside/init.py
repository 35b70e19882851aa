#!/usr/bin/python3 -B
"""The first process of a container with databases, and the commands that a suite runs in it. A database is used if it is installed.

Without an argument it makes the databases that are not there yet and starts all of them, as after a power cut. `fill` opens the accounts.
`load SEED` transfers money until it is killed. `counts` prints how many transfers each database has committed. `audit` prints the
same, and what no database could hold at any one moment. `spoil` breaks an invariant of each database, as a proof that `audit` finds it."""
import json, os, signal, sqlite3, sys, threading, time
from kinds import DATABASES


def once_up(database, call):
    """Calls it until the database answers. Raises an error with its log if its program has ended. SQLite has none, and answers at once."""
    end = time.monotonic() + 60
    while True:
        try:
            return call()
        except sqlite3.Error:
            raise
        except Exception as error:
            if os.path.exists('/tmp/%s.ended' % database.name) or time.monotonic() > end:
                raise RuntimeError('%s\n%s' % (error, open('/tmp/%s.log' % database.name, errors='replace').read()[-600:]))
            time.sleep(0.05)


def serve():
    """Starts the databases, notes which have ended, and waits for every orphan, as the first process must."""
    started = {}
    for signal_number in (signal.SIGTERM, signal.SIGPWR):
        signal.signal(signal_number, lambda *_: os._exit(0))
    for database in DATABASES:
        if not os.path.exists(database.folder):
            database.make()
        child = database.start()
        if child:
            started[child.pid] = database.name
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            time.sleep(0.2)
            continue
        if pid in started:
            open('/tmp/%s.ended' % started[pid], 'w').close()


def load(seed):
    """Loads all databases at once, each in a thread."""
    def forever(database):
        try:
            database.load(seed)
        finally:
            os._exit(1)  # a load that goes on without one of the databases would prove less
    for database in DATABASES:
        threading.Thread(target=forever, args=(database,)).start()


def audit():
    said = {}
    for database in DATABASES:
        count, problems = -1, []
        try:
            count = once_up(database, database.count)
            problems = list(database.problems())
        except Exception as error:
            problems = [str(error)]
        said[database.name] = {'count': count, 'problems': problems}
    print(json.dumps(said))


command = sys.argv[1] if len(sys.argv) > 1 else 'serve'
if command == 'serve':
    serve()
elif command == 'fill':
    for database in DATABASES:
        once_up(database, database.fill)
elif command == 'load':
    load(int(sys.argv[2]))
elif command == 'counts':
    print(json.dumps({database.name: {'count': database.count(), 'problems': []} for database in DATABASES}))
elif command == 'audit':
    audit()
elif command == 'spoil':
    for database in DATABASES:
        database.spoil()
