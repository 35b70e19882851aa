"""A bank as a table of accounts and one of transfers between them, in any database that speaks SQL."""
import random, time

ACCOUNTS = 20_000
EACH = 5  # so that the accounts hold 100,000 in all
PAUSE = 0.003  # seconds between two transfers: some 200 to 300 in a second, so that a machine has time for more than them


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
