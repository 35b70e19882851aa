/** When a job runs: next_run for each form of `at`. */

import { type Body, isBody, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { backupBody, endedBackup, idOf, stateOf } from '../bed/request-bodies.js';
import { zone } from '../bed/zone.js';
import type { Rules } from './rules.js';

const day = 86_400_000;
/** A date whose UTC fields show the local time of the zone. */
const local = (ms: number) => new Date(ms + zone.offsetMs);
const written = (ms: number) => local(ms).toISOString().slice(0, 19).replace('T', ' ');

interface Case {
  readonly title: string;
  readonly at: Body;
  /** Time of the next run. */
  readonly time: string;
  /** Whether it runs that day. */
  readonly on?: (day: Date) => boolean;
}

const lastOfMonth = (date: Date) => new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();

const cases: readonly Case[] = [
  { title: 'a start below 1440 counts minutes', at: { repeat: 'daily', start: 60 }, time: '01:00:00' },
  { title: 'a run at midnight', at: { repeat: 'daily', start: 0 }, time: '00:00:00' },
  { title: 'a run in the last minute', at: { repeat: 'daily', start: 1439 }, time: '23:59:00' },
  { title: 'a start from 1440 on counts seconds', at: { repeat: 'daily', start: 1440 }, time: '00:24:00' },
  { title: 'a run in the last second', at: { repeat: 'daily', start: 86_399 }, time: '23:59:59' },
  { title: 'a time as HH:MM', at: { repeat: 'daily', time: '06:30' }, time: '06:30:00' },
  {
    title: 'given days of the week',
    at: { repeat: 'weekly', start: 90, days: [0, 3] },
    time: '01:30:00',
    on: (d) => [0, 3].includes(d.getUTCDay()),
  },
  {
    title: 'given days of the month',
    at: { repeat: 'monthly', time: '22:10', days: [2, 17] },
    time: '22:10:00',
    on: (d) => [2, 17].includes(d.getUTCDate()),
  },
  {
    title: 'a day that some months lack is their last day',
    at: { repeat: 'monthly', start: 60, days: [31] },
    time: '01:00:00',
    on: (d) => d.getUTCDate() === lastOfMonth(d),
  },
];

/** The first instant after `after` that is at the time, on a day that fits. */
function expected({ time, on = () => true }: Case, after: number): number {
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(Number);
  const midnight = Math.floor((after + zone.offsetMs) / day) * day - zone.offsetMs;
  for (let date = midnight; ; date += day) {
    const instant = date + ((hours * 60 + minutes) * 60 + seconds) * 1000;
    if (instant > after && on(local(instant))) return instant;
  }
}

const nextOf = async (a: Appliance, id: number) => Date.parse(String((await stateOf(a.service, 'backup', id, '?view=full')).next_run_at));

function caseRule(one: Case): Rules[string] {
  return async (t, { a, make, drop }) => {
    const before = Date.now();
    const job = await make({ at: one.at });
    const next = expected(one, before);
    if (expected(one, Date.now()) !== next) return void t.pass('the time has just come');
    t.strictSame(part(job, 'state'), { code: 'init', next_run: written(next) });
    t.strictSame(part(job, 'at'), one.at, 'at stays as it was sent');
    t.equal(await nextOf(a, idOf(job)), next, 'the twin says the same in RFC 3339');
    await drop(idOf(job));
  };
}

export const calendarRules: Rules = {
  ...Object.fromEntries(cases.map((one) => [`${one.title}: ${JSON.stringify(one.at)}`, caseRule(one)])),

  'several runs a day have the same distance': async (t, { a, make, drop }) => {
    for (const [times, apart] of [
      [2, 12],
      [3, 8],
      [24, 1],
    ] as const) {
      const job = await make({ at: { repeat: 'daily', start: 60, times } });
      const next = await nextOf(a, idOf(job));
      t.ok(next - Date.now() <= apart * 3_600_000, `within ${apart} h`);
      t.equal((local(next).getUTCHours() - 1 + 24) % apart, 0, `${apart} h apart from 01:00`);
      t.equal(local(next).getUTCMinutes(), 0);
      await drop(idOf(job));
    }
  },

  'a oneshot runs once at its time and is completed': async (t, { a, make }) => {
    const start = Math.floor(Date.now() / 1000) + 3;
    const job = await make({ at: { repeat: 'oneshot', start } });
    t.match(job, { state: { code: 'init', next_run: written(start * 1000) } });
    await endedBackup(a.service, idOf(job));
    const state = await stateOf(a.service, 'backup', idOf(job), '?view=full');
    t.match(state, { code: 'completed', result: 0 });
    t.notOk('next_run' in state, 'it has no other run');
    t.ok(
      Math.abs(Date.parse(String(state.last_run_at)) - start * 1000) < 3000,
      `it began at ${state.last_run}, told to at ${written(start * 1000)}`,
    );
    const again = await a.service.call('GET', `/backup/${idOf(job)}`);
    t.strictSame(
      await a.service.call('PUT', `/backup/${idOf(job)}`, isBody(again) ? again : {}),
      again,
      'and can be put back as it was got',
    );
    await a.service.call('DELETE', `/backup/${idOf(job)}?purge=true`);
  },

  'a time in the past is refused': async (t, { a }) => {
    const at = { repeat: 'oneshot', start: Math.floor(Date.now() / 1000) - 1 };
    t.match(await a.service.ask('POST', '/backup', backupBody({ at })), {
      status: 400,
      json: { error: { message: /\/at\/start is in the past/ } },
    });
  },

  'a change of `at` replaces all of it': async (t, { a, make, drop }) => {
    const job = await make({ at: { repeat: 'daily', start: 60, times: 2 } });
    const changed = await a.service.call('PUT', `/backup/${idOf(job)}`, { at: { repeat: 'weekly', time: '04:05', days: [1] } });
    t.strictSame(part(changed, 'at'), { days: [1], repeat: 'weekly', time: '04:05' });
    t.match(part(changed, 'state'), { next_run: / 04:05:00$/ });
    await drop(idOf(job));
  },
};
