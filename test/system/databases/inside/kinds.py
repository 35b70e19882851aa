"""The databases that a container may have. Each is made and started as its packages do it, loaded without a break, and audited with its own
tools. `count` is how many transfers it has committed."""
import glob, os, shutil, socket, sqlite3, subprocess, time
from bank import ACCOUNTS, EACH, PAUSE, bank_problems, transfers

os.environ['PATH'] = os.pathsep.join(['/usr/bin', '/usr/sbin', *glob.glob('/usr/lib/postgresql/*/bin')])


def as_user(name):
    return {'user': name, 'group': name, 'extra_groups': [], 'cwd': '/'}


def run(args, user='root', text=None):
    """Runs a program to its end. Returns what it prints; raises an error with its last words if it fails."""
    done = subprocess.run(args, input=text, text=True, capture_output=True, **as_user(user))
    if done.returncode != 0:
        raise RuntimeError('%s ended with %d: %s' % (args[0], done.returncode, (done.stderr or done.stdout).strip()[-400:]))
    return done.stdout.strip()


def begin(name, args, user='root'):
    """Starts a daemon, whose output goes to /tmp."""
    log = open('/tmp/%s.log' % name, 'ab')
    return subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_user(user))


class PostgreSQL:
    name, program, folder = 'postgresql', 'postgres', '/data/postgresql'
    settings = {
        'listen_addresses': '', 'unix_socket_directories': '/tmp', 'shared_buffers': '32MB', 'jit': 'off',
        'checkpoint_timeout': '30s', 'max_wal_size': '64MB', 'min_wal_size': '32MB', 'autovacuum_naptime': '10s',
    }

    def make(self):
        os.makedirs(self.folder, 0o700)
        shutil.chown(self.folder, 'postgres', 'postgres')
        run(['initdb', '--pgdata', self.folder, '--locale=C.UTF-8', '--no-sync'], 'postgres')

    def start(self):
        # It names a process of a container that is gone. In this one the number may be that of another process, and then PostgreSQL
        # believes that it runs already.
        if os.path.exists(self.folder + '/postmaster.pid'):
            os.unlink(self.folder + '/postmaster.pid')
        set_all = [word for key, value in self.settings.items() for word in ('-c', '%s=%s' % (key, value))]
        return begin(self.name, ['postgres', '-D', self.folder, *set_all], 'postgres')

    def ask(self, sql):
        return run(['psql', '-h', '/tmp', '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-c', sql, 'postgres'], 'postgres')

    def fill(self):
        if self.ask("SELECT to_regclass('pgbench_history') IS NULL") == 't':
            run(['pgbench', '-h', '/tmp', '-i', '-q', '-s', '1', 'postgres'], 'postgres')
            self.ask('CREATE EXTENSION IF NOT EXISTS amcheck')

    def load(self, seed):
        subprocess.run(
            ['pgbench', '-h', '/tmp', '-n', '-c', '2', '-R', '300', '-T', '1000000', '--random-seed=%d' % seed, 'postgres'],
            check=True, **as_user('postgres'))

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
    name, program, folder = 'mariadb', 'mariadbd', '/data/mysql'
    client = ['mariadb', '--no-defaults', '--socket=/tmp/mysql.sock', '--batch', '--skip-column-names', '--unbuffered']

    def make(self):
        os.makedirs(self.folder)
        shutil.chown(self.folder, 'mysql', 'mysql')
        run(['mariadb-install-db', '--no-defaults', '--datadir=' + self.folder, '--user=mysql', '--skip-test-db', '--innodb-log-file-size=16M'])

    def start(self):
        return begin(self.name, [
            'mariadbd', '--no-defaults', '--user=mysql', '--datadir=' + self.folder, '--socket=/tmp/mysql.sock', '--pid-file=/tmp/mysql.pid',
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
    name, program, folder = 'sqlite', 'python3', '/srv/bank'

    def make(self):
        os.makedirs(self.folder)

    def start(self):
        return None

    def open(self):
        db = sqlite3.connect(self.folder + '/bank.db', isolation_level=None, timeout=20)
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
    name, program, folder = 'redis', 'redis-server', '/srv/redis'

    def make(self):
        os.makedirs(self.folder)

    def start(self):
        return begin(self.name, [
            'redis-server', '--port', '0', '--unixsocket', '/tmp/redis.sock', '--dir', self.folder, '--appendonly', 'yes', '--save', '',
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


DATABASES = [one for one in (PostgreSQL(), MariaDB(), SQLite(), Redis()) if shutil.which(one.program)]
