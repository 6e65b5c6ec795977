'use strict'

// One member of a group; see Member in harness.js. Commits after each batch that it has printed.

const { Kafka, logLevel } = require('kafkajs')
const { now } = require('./harness.js')

const settings = JSON.parse(process.argv[2])
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n')

async function main() {
  const kafka = new Kafka({
    brokers: process.env.BOOTSTRAP.split(','),
    logLevel: logLevel.NOTHING,
    requestTimeout: 5000, // what a broker that ends leaves unanswered is asked again then
    retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 100 },
  })
  const consumer = kafka.consumer({ groupId: settings.group, sessionTimeout: 3000, heartbeatInterval: 200, rebalanceTimeout: 10_000, maxWaitTimeInMs: 100 })
  let owned = []
  const lose = () => {
    say({ revoked: owned, at: now() })
    owned = []
  }
  consumer.on(consumer.events.REBALANCING, lose)
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    if (owned.length) lose()
    owned = payload.memberAssignment[settings.topic] || []
    say({ assigned: owned, at: now() })
  })
  process.on('SIGTERM', async () => {
    await consumer.stop()
    if (owned.length) lose()
    await consumer.disconnect()
    process.exit(0)
  })
  await consumer.connect()
  await consumer.subscribe({ topic: settings.topic, fromBeginning: true })
  await consumer.run({
    eachBatchAutoResolve: true,
    eachBatch: async ({ batch, commitOffsetsIfNecessary, resolveOffset }) => {
      for (const message of batch.messages) {
        say({ value: String(message.value) })
        resolveOffset(message.offset)
      }
      await commitOffsetsIfNecessary({ topics: [{ topic: batch.topic, partitions: [{ partition: batch.partition, offset: String(BigInt(batch.lastOffset()) + 1n) }] }] })
    },
  })
}

main()
