'use strict'

// kafkajs against the broker at BOOTSTRAP.

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'

const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const { LIMIT_MS, Member, check, fails, main, name, neverShared, numbers, restart, same, share, until } = require('./harness.js')

const brokers = process.env.BOOTSTRAP.split(',')
const replicas = Number(process.env.REPLICAS || 1)
const kafka = new Kafka({ brokers, requestTimeout: 5000, logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, maxRetryTime: 1000, retries: 20 } })
// refusals are to be seen at once
const impatient = new Kafka({ brokers, logLevel: logLevel.NOTHING, retry: { retries: 1, initialRetryTime: 50 } })

async function withAdmin(work, from = kafka) {
  const admin = from.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function topic(hint, numPartitions = 1) {
  const given = name(hint)
  await withAdmin((admin) => admin.createTopics({ topics: [{ topic: given, numPartitions, replicationFactor: replicas }] }))
  return given
}

async function send(given, messages, { acks = -1, compression, ...options } = {}) {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await producer.send({ topic: given, messages, acks, compression })
  } finally {
    await producer.disconnect()
  }
}

const spread = (given, partitions, values) => send(given, values.map((value, i) => ({ value, partition: i % partitions })))

/** Joins a group until `count` messages came; gives them. `during(consumer, messages)` runs while it is a member still. */
async function grouped(groupId, given, count, { during, each, ...options } = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 5000, heartbeatInterval: 200, maxWaitTimeInMs: 100, ...options })
  const messages = []
  let crashed
  consumer.on(consumer.events.CRASH, ({ payload }) => (crashed = payload.error))
  await consumer.connect()
  try {
    await consumer.subscribe({ topic: given, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ message, partition }) => {
        messages.push({ ...message, partition })
        if (each) await each(consumer, message, partition)
      },
    })
    await until(`${count} messages`, () => {
      if (crashed) throw crashed
      return messages.length >= count
    })
    if (during) await during(consumer, messages)
    return messages
  } finally {
    await consumer.disconnect()
  }
}

const values = (messages) => messages.map((message) => message.value && String(message.value))
const sorted = (list) => [...list].sort()

async function committed(admin, groupId, given) {
  const found = await admin.fetchOffsets({ groupId, topics: [given] })
  return Object.fromEntries(found[0].partitions.map(({ partition, offset, metadata }) => [partition, [offset, metadata]]))
}

for (const [title, compression] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP]]) {
  check(`produce and consume, compression ${title}`, async () => {
    const given = await topic(title)
    const sent = numbers(0, 500).map((each) => `${each}: a line that compresses well`.repeat(20))
    const [answer] = await send(given, sent.map((value) => ({ value })), { compression })
    same([0, '0'], [answer.errorCode, answer.baseOffset], 'answer')
    same(sent, values(await grouped(name('group'), given, 500)), 'values')
  })
}

check('idempotent producer, acks, keys, null values, headers', async () => {
  const given = await topic('shapes')
  for (const acks of [0, 1, -1]) await send(given, [{ value: `acks ${acks}` }], { acks })
  await send(given, [{ value: 'idempotent' }], { idempotent: true, maxInFlightRequests: 1 })
  await send(given, [{ key: 'k', value: null, headers: { twice: ['1', '2'], once: 'x' }, timestamp: '1700000000123' }])
  const messages = await grouped(name('group'), given, 5)
  same(['acks 0', 'acks 1', 'acks -1', 'idempotent', null], values(messages), 'values')
  const { key, headers, timestamp } = messages[4]
  same(['k', ['1', '2'], 'x', '1700000000123'], [String(key), headers.twice.map(String), String(headers.once), timestamp], 'the last')
})

check('a group whose members join, leave and die while records come', async () => {
  const [given, group] = [await topic('rebalance', 6), name('group')]
  let sent = 0
  const produce = async () => {
    await spread(given, 6, numbers(sent, sent + 300))
    sent += 300
  }
  const join = () => new Member({ group, topic: given })
  await produce()
  const first = join()
  const members = [first]
  try {
    await until('the first owns all', () => share(6, first))
    await produce()
    const second = join()
    members.push(second)
    await until('two share', () => share(6, first, second))
    await produce()
    const third = join()
    members.push(third)
    await until('three share', () => share(6, first, second, third))
    await produce()
    await second.leave()
    await until('two share when one has left', () => share(6, first, third))
    await produce()
    await third.die()
    await until('the first owns all when one has died', () => share(6, first))
    await produce()
    await until('every record was read', () => numbers(0, sent).every((value) => members.some((member) => member.values.has(value))))
  } finally {
    for (const member of members) await member.leave()
  }
  neverShared(members)
  await withAdmin(async (admin) => {
    const found = await committed(admin, group, given)
    same(Array(6).fill('300'), Object.values(found).map(([offset]) => offset), 'committed offsets')
  })
})

check('commits with metadata, resumed after them', async () => {
  const [given, group] = [await topic('commits', 2), name('group')]
  await spread(given, 2, numbers(0, 20))
  await grouped(group, given, 20, {
    during: (consumer) => consumer.commitOffsets([{ topic: given, partition: 0, offset: '7', metadata: 'seven, ünïcode' }]),
  })
  await withAdmin(async (admin) => same({ 0: ['7', 'seven, ünïcode'], 1: ['-1', ''] }, mapped(await committed(admin, group, given)), 'committed'))
  const again = await grouped(group, given, 13)
  same(sorted(['14', '16', '18', ...numbers(0, 20).filter((_, i) => i % 2)]), sorted(values(again)), 'values after what was committed')
})

const sort = (object) => Object.fromEntries(Object.entries(object).sort())

check('automatic commits', async () => {
  const [given, group] = [await topic('auto-commit'), name('group')]
  for (const from of [0, 50]) {
    await spread(given, 1, numbers(from, from + 50))
    const consumer = kafka.consumer({ groupId: group, heartbeatInterval: 200, maxWaitTimeInMs: 100 })
    const seen = []
    await consumer.connect()
    await consumer.subscribe({ topic: given, fromBeginning: true })
    await consumer.run({ autoCommitThreshold: 10, eachMessage: async ({ message }) => seen.push(message) })
    await until('all came', () => seen.length >= 50)
    await consumer.disconnect()
    same(numbers(from, from + 50), values(seen), 'values')
  }
})

check('a member seeks by time, pauses and resumes', async () => {
  const [given, group] = [await topic('seek'), name('group')]
  const base = Date.now() - 100_000
  await send(given, numbers(0, 50).map((value, i) => ({ value, timestamp: String(base + 10 * i) })))
  const [found] = await withAdmin((admin) => admin.fetchTopicOffsetsByTimestamp(given, base + 405))
  same('41', found.offset, 'offset')
  await grouped(group, given, 50, {
    during: async (consumer, messages) => {
      consumer.seek({ topic: given, partition: 0, offset: found.offset })
      await until('nine more', () => messages.length === 59)
      same(numbers(41, 50), values(messages.slice(50)), 'values from that time')
      consumer.pause([{ topic: given }])
      await send(given, [{ value: 'later' }])
      same([{ topic: given, partitions: [0] }], consumer.paused(), 'paused')
      same(59, messages.length, 'messages while it is paused')
      consumer.resume([{ topic: given }])
      await until('the last', () => messages.length === 60)
    },
  })
})

check('admin: topics created, described, grown, deleted; configurations; records deleted', async () => {
  await withAdmin(async (admin) => {
    const given = await topic('admin', 2)
    same(false, await admin.createTopics({ topics: [{ topic: given }] }), 'creating it again')
    await until('listed', async () => (await admin.listTopics()).includes(given))
    const { topics } = await admin.fetchTopicMetadata({ topics: [given] })
    same(2, topics[0].partitions.length, 'partitions')
    await admin.createPartitions({ topicPartitions: [{ topic: given, count: 3 }] })
    const resource = { type: ConfigResourceTypes.TOPIC, name: given }
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '4321' }] }] })
    const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [{ ...resource, configNames: ['retention.ms'] }] })
    same(['retention.ms', '4321'], [resources[0].configEntries[0].configName, resources[0].configEntries[0].configValue], 'configuration')
    await spread(given, 1, numbers(0, 10))
    await admin.deleteTopicRecords({ topic: given, partitions: [{ partition: 0, offset: '4' }] })
    const offsets = await admin.fetchTopicOffsets(given)
    const { low, high } = offsets.find((each) => each.partition === 0)
    same(['4', '10'], [low, high], 'offsets')
    const cluster = await admin.describeCluster()
    same([...brokers].sort(), cluster.brokers.map(({ host, port }) => `${host}:${port}`).sort(), 'addresses')
    await admin.deleteTopics({ topics: [given] })
    await until('gone', async () => !(await admin.listTopics()).includes(given))
  })
})

check('admin: groups listed, described, deleted; offsets set and reset', async () => {
  const [given, group] = [await topic('groups', 2), name('group')]
  await spread(given, 2, numbers(0, 20))
  await withAdmin(async (admin) => {
    await grouped(group, given, 20, {
      during: async () => {
        const { groups } = await admin.listGroups()
        same('consumer', groups.find((each) => each.groupId === group).protocolType, 'listed')
        const described = (await admin.describeGroups([group])).groups[0]
        same(['Stable', 'consumer', 'RoundRobinAssigner', 1], [described.state, described.protocolType, described.protocol, described.members.length], 'described')
        same(['kafkajs', '/127.0.0.1'], [described.members[0].clientId, described.members[0].clientHost], 'member')
        await fails('NON_EMPTY_GROUP', () => withAdmin((hasty) => hasty.deleteGroups([group]), impatient))
      },
    })
    await admin.setOffsets({ groupId: group, topic: given, partitions: [{ partition: 0, offset: '4' }, { partition: 1, offset: '9' }] })
    same({ 0: ['4', ''], 1: ['9', ''] }, mapped(await committed(admin, group, given)), 'offsets')
    same(7, (await grouped(group, given, 7)).length, 'messages after what was set')
    await admin.deleteGroups([group])
    await fails('GROUP_ID_NOT_FOUND', () => withAdmin((hasty) => hasty.deleteGroups([group]), impatient))
    same('Dead', (await admin.describeGroups([group])).groups[0].state, 'state of the deleted group')
  })
})

const mapped = (found) => sort(Object.fromEntries(Object.entries(found).map(([partition, [offset, metadata]]) => [partition, [offset, metadata || '']])))

check('refusals: too large, an unknown topic, metadata too large, an empty group id, an evicted member', async () => {
  const given = await topic('refused')
  const producer = impatient.producer()
  await producer.connect()
  await fails('MESSAGE_TOO_LARGE', () => producer.send({ topic: given, messages: [{ value: 'x'.repeat(2_000_000) }] }))
  await producer.disconnect()
  await withAdmin((admin) => fails('UNKNOWN_TOPIC_OR_PARTITION', () => admin.fetchTopicMetadata({ topics: [name('unknown')] })), impatient)
  await spread(given, 1, numbers(0, 5))
  const group = name('group')
  await grouped(group, given, 5, {
    during: (consumer) =>
      fails('OFFSET_METADATA_TOO_LARGE', () => consumer.commitOffsets([{ topic: given, partition: 0, offset: '1', metadata: 'm'.repeat(5000) }])),
  })
  const nobody = impatient.consumer({ groupId: ' ' })
  await nobody.disconnect()
  // Of several brokers kafkajs has a fetcher each, and those of which nothing comes beat on while this one hangs.
  if (brokers.length > 1) return
  // it hangs for longer than its session, and finds itself replaced when it commits
  let error
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 1000, heartbeatInterval: 200, maxWaitTimeInMs: 100, rebalanceTimeout: 1500 })
  await consumer.connect()
  await consumer.subscribe({ topic: given, fromBeginning: true })
  let hung = false
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ message }) => {
      if (hung) return
      hung = true
      await withAdmin((admin) => until('the broker has given it up', async () => (await admin.describeGroups([group])).groups[0].state === 'Empty'))
      await consumer.commitOffsets([{ topic: given, partition: 0, offset: message.offset }]).catch((each) => (error = each))
    },
  })
  await until('it committed', () => error)
  // kafkajs keeps only the words of UNKNOWN_MEMBER_ID
  same('The coordinator is not aware of this member', error.message, 'error of an evicted member')
  await consumer.disconnect()
})

for (const how of ['stop', 'kill']) {
  check(`commits and members outlive a restart of the broker (${how})`, async () => {
    const [given, group] = [await topic('restart', 2), name('group')]
    await spread(given, 2, numbers(0, 100))
    await grouped(group, given, 100, {
      during: (consumer) => consumer.commitOffsets([{ topic: given, partition: 0, offset: '40', metadata: 'forty' }, { topic: given, partition: 1, offset: '45' }]),
    })
    const running = new Member({ group: name('running'), topic: given })
    try {
      await until('it runs', () => share(2, running) && running.values.size === 100)
      await restart(how)
      await spread(given, 2, numbers(100, 110))
      await until('who ran goes on', () => numbers(100, 110).every((value) => running.values.has(value)))
      await withAdmin(async (admin) => same({ 0: ['40', 'forty'], 1: ['45', ''] }, mapped(await committed(admin, group, given)), 'committed before the restart'))
      const resumed = await grouped(group, given, 25) // some come twice when it joins while its coordinator is not found yet
      same(25, new Set(values(resumed)).size, 'values after what was committed')
    } finally {
      await running.leave()
    }
  })
}

main()
