#!/usr/bin/python3
"""The first process of a container with databases, and the commands that a suite runs in it. A database is used if it is installed.

Without an argument it makes the databases that are not there yet and starts all of them, as after a power cut. `fill` opens the accounts.
`load SEED` transfers money until it is killed. `counts` prints how many transfers each database has committed. `audit` prints the
same, and what no database could hold at any one moment. `spoil` breaks an invariant of each database, as a proof that `audit` finds it."""
import glob, json, os, random, shutil, signal, socket, sqlite3, subprocess, sys, threading, time

POSTGRESQL = '/data/postgresql'
MARIADB = '/data/mysql'
SQLITE = '/srv/bank/bank.db'
REDIS = '/srv/redis'
ACCOUNTS = 20_000
EACH = 5  # so that the accounts of a bank hold 100,000 in all
PAUSE = 0.003  # seconds between two transfers of one database: some 200 to 300 in a second, and the machine is not busy with them alone

PROGRAMS = os.pathsep.join(['/usr/bin', '/usr/sbin', *glob.glob('/usr/lib/postgresql/*/bin')])
os.environ['PATH'] = PROGRAMS


def has(program):
    return shutil.which(program) is not None


def run(args, user=None, text=None):
    """Runs a program to its end. Returns what it prints; raises an error with its last words if it fails."""
    group = {'user': user, 'group': user, 'extra_groups': []} if user else {}
    done = subprocess.run(args, input=text, text=True, capture_output=True, cwd='/', **group)
    if done.returncode != 0:
        raise RuntimeError('%s ended with %d: %s' % (args[0], done.returncode, (done.stderr or done.stdout).strip()[-400:]))
    return done.stdout.strip()


def logged(name, args, user=None):
    group = {'user': user, 'group': user, 'extra_groups': []} if user else {}
    log = open('/tmp/%s.log' % name, 'ab')
    return subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd='/', **group)


class PostgreSQL:
    name, program = 'postgresql', 'postgres'
    settings = {
        'listen_addresses': '', 'unix_socket_directories': '/tmp', 'shared_buffers': '32MB', 'jit': 'off',
        'checkpoint_timeout': '30s', 'max_wal_size': '64MB', 'min_wal_size': '32MB', 'autovacuum_naptime': '10s',
    }

    def make(self):
        os.makedirs(POSTGRESQL, 0o700)
        shutil.chown(POSTGRESQL, 'postgres', 'postgres')
        run(['initdb', '--pgdata', POSTGRESQL, '--locale=C.UTF-8', '--no-sync'], 'postgres')

    def start(self):
        # It names a process of a container that is gone. In this one the number may be that of another process, and then PostgreSQL
        # believes that it runs already.
        if os.path.exists(POSTGRESQL + '/postmaster.pid'):
            os.unlink(POSTGRESQL + '/postmaster.pid')
        set_all = [word for key, value in self.settings.items() for word in ('-c', '%s=%s' % (key, value))]
        return logged(self.name, ['postgres', '-D', POSTGRESQL, *set_all], 'postgres')

    def ask(self, sql):
        return run(['psql', '-h', '/tmp', '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-c', sql, 'postgres'], 'postgres')

    def fill(self):
        if self.ask("SELECT to_regclass('pgbench_history') IS NULL") == 't':
            run(['pgbench', '-h', '/tmp', '-i', '-q', '-s', '1', 'postgres'], 'postgres')
            self.ask('CREATE EXTENSION IF NOT EXISTS amcheck')

    def load(self, seed):
        subprocess.run(
            ['pgbench', '-h', '/tmp', '-n', '-c', '2', '-R', '300', '-T', '1000000', '--random-seed=%d' % seed, 'postgres'],
            user='postgres', group='postgres', extra_groups=[], cwd='/', check=True)

    def count(self):
        return int(self.ask('SELECT count(*) FROM pgbench_history'))

    def spoil(self):
        self.ask('UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1')

    def problems(self):
        sums = [('bbalance', 'branches'), ('tbalance', 'tellers'), ('abalance', 'accounts'), ('delta', 'history')]
        found = set(self.ask('SELECT coalesce(sum(%s), 0) FROM pgbench_%s' % one) for one in sums)
        if len(found) > 1:
            yield 'the four sums are %s' % ', '.join(sorted(found))
        # an index that lacks a row, or a row that lacks its index, raises an error
        self.ask("SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i'")
        corrupt = int(self.ask("SELECT count(*) FROM pg_class c, verify_heapam(c.oid) WHERE c.relkind IN ('r', 't', 'm')"))
        if corrupt:
            yield 'verify_heapam finds %d corrupt tuples' % corrupt


class MariaDB:
    name, program = 'mariadb', 'mariadbd'
    client = ['mariadb', '--no-defaults', '--socket=/tmp/mysql.sock', '--batch', '--skip-column-names', '--unbuffered']

    def make(self):
        os.makedirs(MARIADB)
        shutil.chown(MARIADB, 'mysql', 'mysql')
        run(['mariadb-install-db', '--no-defaults', '--datadir=' + MARIADB, '--user=mysql', '--skip-test-db', '--innodb-log-file-size=16M'])

    def start(self):
        return logged(self.name, [
            'mariadbd', '--no-defaults', '--user=mysql', '--datadir=' + MARIADB, '--socket=/tmp/mysql.sock', '--pid-file=/tmp/mysql.pid',
            '--skip-networking', '--innodb-buffer-pool-size=32M', '--innodb-log-file-size=16M'])

    def ask(self, sql):
        return run(self.client, text=sql)

    def fill(self):
        if self.ask("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'bank' AND table_name = 'ready'") == '0':
            self.ask("""
                CREATE DATABASE bank; USE bank;
                CREATE TABLE account (id INT PRIMARY KEY, balance INT, note VARBINARY(250), KEY (balance)) ENGINE=InnoDB;
                CREATE TABLE transfer (id INT PRIMARY KEY, payer INT, payee INT, amount INT) ENGINE=InnoDB;
                INSERT INTO account SELECT seq, %d, REPEAT(MD5(seq), 7) FROM seq_1_to_%d;
                CREATE TABLE ready (id INT) ENGINE=InnoDB;""" % (EACH, ACCOUNTS))

    def load(self, seed):
        client = subprocess.Popen([*self.client, 'bank'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for number, payer, payee, amount in transfers(seed, self.count()):
            client.stdin.write(
                'START TRANSACTION; UPDATE account SET balance = balance - %d WHERE id = %d; UPDATE account SET balance = balance + %d '
                'WHERE id = %d; INSERT INTO transfer VALUES (%d, %d, %d, %d); COMMIT; SELECT %d;\n'
                % (amount, payer, amount, payee, number, payer, payee, amount, number))
            if client.stdout.readline().strip() != str(number):
                raise RuntimeError('MariaDB did not commit transfer %d' % number)

    def count(self):
        return int(self.ask('SELECT count(*) FROM bank.transfer'))

    def spoil(self):
        self.ask('UPDATE bank.account SET balance = balance + 1 WHERE id = 1')

    def problems(self):
        tables = self.ask(
            "SELECT concat(table_schema, '.', table_name) FROM information_schema.tables WHERE engine = 'InnoDB'").split('\n')
        for line in self.ask('CHECK TABLE %s EXTENDED' % ', '.join(tables)).split('\n'):
            if not line.endswith('\tOK'):
                yield line
        yield from bank_problems(lambda sql: [int(one) for one in self.ask('USE bank; ' + sql).split()])


class SQLite:
    """In WAL mode with an fsync for each commit. Each commit changes the index on the balance. Checkpoints come often, so that the main
    file changes while a reader reads it, too."""
    name, program = 'sqlite', 'python3'

    def make(self):
        os.makedirs(os.path.dirname(SQLITE))

    def start(self):
        return None

    def open(self):
        db = sqlite3.connect(SQLITE, isolation_level=None, timeout=20)
        for setting in ('journal_mode = WAL', 'synchronous = FULL', 'wal_autocheckpoint = 100'):
            db.execute('PRAGMA ' + setting)
        return db

    def fill(self):
        db = self.open()
        if db.execute('SELECT count(*) FROM sqlite_schema').fetchone() == (0,):
            db.execute('BEGIN')
            db.execute('CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note BLOB)')
            db.execute('CREATE INDEX by_balance ON account (balance)')
            db.execute('CREATE TABLE transfer (id INTEGER PRIMARY KEY, payer INTEGER, payee INTEGER, amount INTEGER)')
            db.executemany('INSERT INTO account VALUES (?, ?, ?)', ((n, EACH, os.urandom(250)) for n in range(1, ACCOUNTS + 1)))
            db.execute('COMMIT')

    def load(self, seed):
        db = self.open()
        for number, payer, payee, amount in transfers(seed, self.count()):
            db.execute('BEGIN IMMEDIATE')
            db.execute('UPDATE account SET balance = balance - ? WHERE id = ?', (amount, payer))
            db.execute('UPDATE account SET balance = balance + ? WHERE id = ?', (amount, payee))
            db.execute('INSERT INTO transfer VALUES (?, ?, ?, ?)', (number, payer, payee, amount))
            db.execute('COMMIT')

    def count(self):
        return self.open().execute('SELECT count(*) FROM transfer').fetchone()[0]

    def spoil(self):
        self.open().execute('UPDATE account SET balance = balance + 1 WHERE id = 1')

    def problems(self):
        db = self.open()
        yield from [line for (line,) in db.execute('PRAGMA integrity_check') if line != 'ok'][:3]
        yield from bank_problems(lambda sql: db.execute(sql).fetchone())


class Redis:
    name, program = 'redis', 'redis-server'

    def make(self):
        os.makedirs(REDIS)

    def start(self):
        return logged(self.name, [
            'redis-server', '--port', '0', '--unixsocket', '/tmp/redis.sock', '--dir', REDIS, '--appendonly', 'yes', '--save', '',
            '--auto-aof-rewrite-min-size', '256kb'])

    def client(self):
        """Returns a function that sends one command and gives its answer, an integer."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect('/tmp/redis.sock')
        answers = connection.makefile('r')

        def ask(command):
            connection.sendall(command.encode() + b'\r\n')
            answer = answers.readline().strip()
            if not answer.startswith(':'):
                raise RuntimeError('%s: %s' % (command, answer))
            return int(answer[1:])
        return ask

    def fill(self):
        pass

    def load(self, seed):
        ask = self.client()
        while True:
            ask('LPUSH l %d' % ask('INCR n'))
            time.sleep(PAUSE)

    def count(self):
        return self.client()('INCRBY n 0')

    def spoil(self):
        ask = self.client()
        for _ in range(2):
            ask('LPUSH l 0')

    def problems(self):
        ask = self.client()
        n, length = ask('INCRBY n 0'), ask('LLEN l')
        if n - length not in (0, 1):
            yield 'n is %d, the list has %d elements' % (n, length)


def transfers(seed, done):
    """Gives transfers between random accounts: number, payer, payee, amount."""
    pick = random.Random(seed)
    while True:
        done += 1
        payer, payee = pick.sample(range(1, ACCOUNTS + 1), 2)
        yield done, payer, payee, pick.randint(1, 1000)
        time.sleep(PAUSE)


def bank_problems(row):
    """`row` gives the integers of the one row of a query."""
    count, last = row('SELECT count(*), coalesce(max(id), 0) FROM transfer')
    if count != last:
        yield '%d transfers, the last is %d' % (count, last)
    wrong = row("""
        SELECT count(*) FROM account LEFT JOIN (
            SELECT id, sum(moved) AS moved FROM (
                SELECT payer AS id, -amount AS moved FROM transfer UNION ALL SELECT payee, amount FROM transfer
            ) AS each_one GROUP BY id
        ) AS all_of_it USING (id) WHERE balance <> %d + coalesce(moved, 0)""" % EACH)[0]
    if wrong:
        yield '%d accounts are not what their transfers make' % wrong
    total = row('SELECT sum(balance) FROM account')[0]
    if total != ACCOUNTS * EACH:
        yield 'the accounts hold %s' % total


DATABASES = [one for one in (PostgreSQL(), MariaDB(), SQLite(), Redis()) if has(one.program)]
FOLDERS = {'postgresql': POSTGRESQL, 'mariadb': MARIADB, 'sqlite': os.path.dirname(SQLITE), 'redis': REDIS}


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
    started = {}
    for signal_number in (signal.SIGTERM, signal.SIGPWR):
        signal.signal(signal_number, lambda *_: os._exit(0))
    for database in DATABASES:
        if not os.path.exists(FOLDERS[database.name]):
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
