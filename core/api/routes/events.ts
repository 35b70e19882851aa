/** Live events of jobs. */

import { events } from '../replies.js';
import { type Route, route, rowsOf } from '../route.js';
import type { EventFeed } from './event-feed.js';

const rows = rowsOf({
  followEvents: { summary: 'Follow events of jobs', access: 'user', tag: 'service', answer: { schema: 'event', isEvents: true } },
});

export function eventRoutes(feed: EventFeed): Route[] {
  return [route('get', '/events', rows.followEvents, ({ lastEventId, gone }) => events(feed.follow(lastEventId, gone)))];
}
