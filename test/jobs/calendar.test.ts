/** next_run in real time zones. Each zone has a child process of its own, because TZ holds for a whole process. */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import type { At } from '../../core/jobs/job.js';
import { nextRun } from '../../core/jobs/schedule/calendar.js';

const module = new URL('../../core/jobs/schedule/calendar.js', import.meta.url).href;

/** Runs from `after` on, in UTC, as computed by a process in that zone. */
function runs(zone: string, at: At, after: string, count: number): string[] {
  const script = `import { nextRun } from ${JSON.stringify(module)};
    const found = [];
    let after = Date.parse(${JSON.stringify(after)});
    for (let n = 0; n < ${count}; n++) found.push(new Date(after = nextRun(${JSON.stringify(at)}, after)).toISOString().slice(0, 19));
    console.log(found.join(','));`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: process.env.PATH, TZ: zone },
    encoding: 'utf8',
  });
  return output.trim().split(',');
}

const rows: readonly [string, string, At, string, string[]][] = [
  ['start in minutes', 'UTC', { repeat: 'daily', start: 60 }, '2026-01-01T00:00:00Z', ['2026-01-01T01:00:00', '2026-01-02T01:00:00']],
  ['start 1439', 'UTC', { repeat: 'daily', start: 1439 }, '2026-01-01T00:00:00Z', ['2026-01-01T23:59:00']],
  ['start in seconds', 'UTC', { repeat: 'daily', start: 1440 }, '2026-01-01T00:00:00Z', ['2026-01-01T00:24:00']],
  ['time', 'Europe/Berlin', { repeat: 'daily', time: '14:30' }, '2026-07-01T12:30:00Z', ['2026-07-02T12:30:00']],
  [
    'several times a day',
    'UTC',
    { repeat: 'daily', start: 780, times: 2 },
    '2026-01-01T00:00:00Z',
    ['2026-01-01T01:00:00', '2026-01-01T13:00:00', '2026-01-02T01:00:00'],
  ],
  [
    'days of the week',
    'America/New_York',
    { repeat: 'weekly', days: [0, 3], start: 0 },
    '2026-07-01T12:00:00Z', // a Wednesday
    ['2026-07-05T04:00:00', '2026-07-08T04:00:00'],
  ],
  [
    'a day that the month lacks, once',
    'UTC',
    { repeat: 'monthly', days: [29, 30, 31], start: 60 },
    '2026-01-30T02:00:00Z',
    ['2026-01-31T01:00:00', '2026-02-28T01:00:00', '2026-03-29T01:00:00'],
  ],
  ['a leap day', 'UTC', { repeat: 'monthly', days: [31], start: 0 }, '2028-02-01T00:00:00Z', ['2028-02-29T00:00:00']],
  [
    'a gap: the first instant after it',
    'Europe/Berlin',
    { repeat: 'daily', start: 150 },
    '2026-03-28T02:00:00Z',
    ['2026-03-29T01:00:00', '2026-03-30T00:30:00'],
  ],
  ['a gap in New York', 'America/New_York', { repeat: 'daily', time: '02:15' }, '2026-03-08T00:00:00Z', ['2026-03-08T07:00:00']],
  ['a gap of half an hour', 'Australia/Lord_Howe', { repeat: 'daily', time: '02:10' }, '2026-10-03T00:00:00Z', ['2026-10-03T15:30:00']],
  [
    'an overlap: once, the first',
    'Europe/Berlin',
    { repeat: 'daily', start: 150 },
    '2026-10-24T12:00:00Z',
    ['2026-10-25T00:30:00', '2026-10-26T01:30:00'],
  ],
  [
    'an overlap of half an hour',
    'Australia/Lord_Howe',
    { repeat: 'daily', time: '01:45' },
    '2026-04-04T12:00:00Z',
    ['2026-04-04T14:45:00', '2026-04-05T15:15:00'],
  ],
  [
    'an overlap in New York, asked between the two',
    'America/New_York',
    { repeat: 'daily', time: '01:30' },
    '2026-11-01T05:45:00Z',
    ['2026-11-02T06:30:00'],
  ],
  [
    'hourly over a gap: none twice',
    'Europe/Berlin',
    { repeat: 'daily', start: 0, times: 24 },
    '2026-03-28T23:30:00Z',
    ['2026-03-29T00:00:00', '2026-03-29T01:00:00', '2026-03-29T02:00:00'],
  ],
  [
    'a day that was skipped',
    'Pacific/Apia',
    { repeat: 'weekly', days: [5], time: '10:00' },
    '2011-12-28T12:00:00Z',
    ['2011-12-30T10:00:00'],
  ],
];

t.test('next_run follows the calendar of each time zone', async (t) => {
  for (const [what, zone, at, after, expected] of rows) t.strictSame(runs(zone, at, after, expected.length), expected, `${what} (${zone})`);
});

t.test('a oneshot runs once at its start', async (t) => {
  t.equal(nextRun({ repeat: 'oneshot', start: 1000 }, 999_999), 1_000_000);
  t.equal(nextRun({ repeat: 'oneshot', start: 1000 }, 1_000_000), undefined, 'past');
});
