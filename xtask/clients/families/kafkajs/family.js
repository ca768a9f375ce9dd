// family.js BOOTSTRAP: the story of ../README.md with KafkaJS.
'use strict'

const assert = require('node:assert/strict')
const readline = require('node:readline')
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

// Recent: retention takes nothing.
const BASE_TIME = Date.now() - 3600000
const PATIENCE_MS = 90000
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }
const kafka = new Kafka({
  brokers: [process.argv[2]],
  logLevel: process.env.FAMILY_LOG ? logLevel[process.env.FAMILY_LOG] : logLevel.NOTHING,
  retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 100 },
})
const sleep = ms => new Promise(wake => setTimeout(wake, ms))
const range = (first, last) => Array.from({ length: last - first }, (_, i) => first + i)

const until = async (what, condition, ...members) => {
  const deadline = Date.now() + PATIENCE_MS
  while (!(await condition())) {
    for (const member of members) if (member.fault) throw member.fault
    assert(Date.now() < deadline, `waited ${PATIENCE_MS} ms for: ${what}`)
    await sleep(50)
  }
}

const recordsFor = codec => range(0, 240).map(i => {
  const key = i % 7 === 0 ? null : `key-${i}`
  const value = i % 10 === 0 && key !== null ? null : `${codec} value ${i} `.repeat(i % 40 === 1 ? 1500 : 3)
  return { partition: i % 3, key, value, headers: i % 3 === 0 ? {} : { trace: `${i}`, empty: '' }, timestamp: `${BASE_TIME + i * 1000}` }
})

// Everything of a record in one comparable shape.
const plain = (partition, message) => ({
  partition,
  key: message.key === null ? null : message.key.toString(),
  value: message.value === null ? null : message.value.toString(),
  headers: Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, value]) => [name, value.toString()])),
  timestamp: message.timestamp,
})

const produce = async (topic, compression, messages) => {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const answers = await producer.send({ topic, acks: -1, compression, messages })
  await producer.disconnect()
  return Object.fromEntries(answers.map(answer => [answer.partition, Number(answer.baseOffset)]))
}

const produceNumbers = (topic, first, last, partitions) => produce(topic, CompressionTypes.None, range(first, last)
  .map(n => ({ partition: n % partitions, key: null, value: `${n}`, timestamp: `${BASE_TIME + n}` })))

// KafkaJS reads in groups only: a group of its own, from the beginning up to the ends.
const consume = async (topic, ends) => {
  const rows = []
  const left = new Set(Object.keys(ends).filter(partition => ends[partition] > 0).map(Number))
  const consumer = kafka.consumer({ groupId: `${topic}-all-${Date.now()}`, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 200 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      rows.push({ offset: Number(message.offset), ...plain(partition, message) })
      if (Number(message.offset) + 1 >= ends[partition]) left.delete(partition)
    },
  })
  await until('all is read', () => left.size === 0)
  await consumer.disconnect()
  return rows
}

// A member of a group: reads and commits by itself until it is told to leave.
class Member {
  constructor (groupId, topic) {
    this.seen = []
    this.owned = null
    this.fault = null
    this.consumer = kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 200, rebalanceTimeout: 10000 })
    this.consumer.on('consumer.group_join', event => { this.owned = event.payload.memberAssignment[topic] ?? [] })
    this.consumer.on('consumer.crash', event => { if (!event.payload.restart) this.fault = event.payload.error })
    this.started = this.run(topic).catch(fault => { this.fault = fault })
  }

  async run (topic) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topic, fromBeginning: true })
    await this.consumer.run({
      eachMessage: async ({ partition, message }) => {
        this.seen.push({ partition, offset: Number(message.offset), number: Number(message.value.toString()) })
      },
    })
  }

  async leave () {
    await this.started
    await this.consumer.disconnect()
    if (this.fault) throw this.fault
  }
}

const numbers = (...members) => new Set(members.flatMap(member => member.seen.map(row => row.number)))

const produceAndConsume = async (admin, topic) => {
  await admin.createTopics({ topics: [{ topic, numPartitions: 3, replicationFactor: 1 }], waitForLeaders: true })
  const expected = { 0: [], 1: [], 2: [] }
  for (const [name, codec] of Object.entries(CODECS)) {
    const records = recordsFor(name)
    const bases = await produce(topic, codec, records)
    for (const partition of [0, 1, 2]) {
      assert.equal(bases[partition], expected[partition].length, `${name}: base offset`)
      for (const record of records.filter(record => record.partition === partition)) {
        expected[partition].push({ offset: expected[partition].length, ...plain(partition, record) })
      }
    }
  }
  const ends = Object.fromEntries(Object.entries(expected).map(([partition, rows]) => [partition, rows.length]))
  const rows = await consume(topic, ends)
  for (const partition of [0, 1, 2]) {
    assert.deepEqual(rows.filter(row => row.partition === partition), expected[partition])
  }
  return `${Object.keys(CODECS).length} codecs`
}

const group = async (admin, topic, name) => {
  await admin.createTopics({ topics: [{ topic, numPartitions: 4, replicationFactor: 1 }], waitForLeaders: true })
  await produceNumbers(topic, 0, 400, 4)
  const first = new Member(name, topic)
  await until('the first member has all', () => first.owned?.length === 4, first)
  await until('the first member reads all', () => numbers(first).size === 400, first)
  const second = new Member(name, topic)
  await until('two members share', () => {
    const union = new Set([...first.owned, ...(second.owned ?? [])])
    return first.owned.length > 0 && second.owned?.length > 0 && first.owned.length + second.owned.length === 4 && union.size === 4
  }, first, second)
  const described = (await admin.describeGroups([name])).groups[0]
  assert.deepEqual([described.state, described.members.length], ['Stable', 2])
  await produceNumbers(topic, 400, 800, 4)
  await until('two members read all', () => numbers(first, second).size === 800, first, second)
  await second.leave()
  await until('the first member has all again', () => first.owned.length === 4, first)
  await produceNumbers(topic, 800, 1000, 4)
  await until('the one that is left reads all', () => numbers(first, second).size === 1000, first)
  await first.leave()
  const [committed] = await admin.fetchOffsets({ groupId: name, topics: [topic] })
  assert.deepEqual(committed.partitions.map(place => place.offset), ['250', '250', '250', '250'])
  const third = new Member(name, topic)
  await until('a third member has all', () => third.owned?.length === 4, third)
  await produceNumbers(topic, 1000, 1100, 4)
  await until('a third member goes on', () => numbers(third).size >= 100, third)
  await third.leave()
  assert.deepEqual([...numbers(third)].sort((a, b) => a - b), range(1000, 1100), 'a member did not begin at the committed offsets')
  return '3 members'
}

const config = async (admin, topic) => {
  const found = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
  return Object.fromEntries(found.resources[0].configEntries.map(entry => [entry.configName, entry.configValue]))
}

const partitionsOf = async (admin, topic) => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length

const administer = async (admin, topic, usedGroup) => {
  const configEntries = [{ name: 'retention.ms', value: '86400000' }]
  await admin.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1, configEntries }], waitForLeaders: true })
  assert.equal(await partitionsOf(admin, topic), 2)
  assert.equal((await config(admin, topic))['retention.ms'], '86400000')
  const entries = [{ name: 'retention.ms', value: '172800000' }, { name: 'max.message.bytes', value: '2000000' }]
  await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: entries }] })
  const altered = await config(admin, topic)
  assert.deepEqual([altered['retention.ms'], altered['max.message.bytes']], ['172800000', '2000000'])

  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  await until('five partitions', async () => (await partitionsOf(admin, topic)) === 5)

  const messages = range(0, 100).map(i => ({ partition: 1, value: 'x', timestamp: `${BASE_TIME + i * 1000}` }))
  await produce(topic, CompressionTypes.None, messages)
  const ends = (await admin.fetchTopicOffsets(topic)).find(place => place.partition === 1)
  assert.deepEqual([ends.low, ends.high], ['0', '100'])
  const at = async time => (await admin.fetchTopicOffsetsByTimestamp(topic, time)).find(place => place.partition === 1).offset
  // Where no record is as young KafkaJS answers the end.
  assert.deepEqual([await at(BASE_TIME + 40001), await at(BASE_TIME + 1e9)], ['41', '100'])

  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 1, offset: '30' }] })
  assert.equal((await admin.fetchTopicOffsets(topic)).find(place => place.partition === 1).low, '30')

  const listed = async () => (await admin.listGroups()).groups.some(one => one.groupId === usedGroup)
  assert(await listed(), 'a group is not listed')
  const described = (await admin.describeGroups([usedGroup])).groups[0]
  assert.deepEqual([described.state, described.members.length], ['Empty', 0])
  await admin.deleteGroups([usedGroup])
  assert(!(await listed()), 'a deleted group is listed')

  await admin.deleteTopics({ topics: [topic] })
  await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
  return 'all'
}

// The broker is killed while we produce and consume; whoever runs us says when it stays up.
const failures = async (admin, topic, name) => {
  await admin.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1 }], waitForLeaders: true })
  const reader = new Member(name, topic)
  let calm = false
  readline.createInterface({ input: process.stdin }).once('line', () => { calm = true })
  console.log('failures')
  // One producer for each partition, which waits for each answer: KafkaJS keeps order only so.
  const send = async partition => {
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    const acked = []
    for (let after = 0; after < 50; after += calm ? 1 : 0) {
      const [answer] = await producer.send({ topic, acks: -1, messages: [{ partition, value: `${acked.length}` }] })
      acked.push(Number(answer.baseOffset))
      await sleep(10)
    }
    await producer.disconnect()
    return acked
  }
  const sent = await Promise.all([send(0), send(1)])
  for (const [partition, acked] of sent.entries()) {
    const end = Number((await admin.fetchTopicOffsets(topic)).find(place => place.partition === partition).high)
    const rows = (await consume(topic, { [partition]: end })).filter(row => row.partition === partition)
    assert.deepEqual(rows.map(row => row.offset), range(0, end), 'offsets are not one after the other')
    assert.deepEqual(rows.map(row => Number(row.value)), range(0, acked.length), `partition ${partition}: lost, twice or out of order`)
    // KafkaJS tells -1 where the broker took the record for a duplicate of one it has.
    acked.forEach((offset, number) => assert(offset === number || offset === -1, `${number} was acknowledged at ${offset}`))
    await until('the group has seen all', () => new Set(reader.seen.filter(row => row.partition === partition)
      .map(row => row.number)).size === acked.length, reader)
  }
  await reader.leave()
  return `${sent[0].length + sent[1].length} records`
}

const main = async () => {
  const run = `kafkajs-${Date.now() % 1e9}`
  const admin = kafka.admin()
  await admin.connect()
  const steps = {
    produce: () => produceAndConsume(admin, `${run}-data`),
    group: () => group(admin, `${run}-shared`, `${run}-group`),
    admin: () => administer(admin, `${run}-admin`, `${run}-group`),
    failures: () => failures(admin, `${run}-failures`, `${run}-reader`),
  }
  const told = []
  for (const [name, step] of Object.entries(steps)) {
    const started = Date.now()
    try {
      told.push(`${name} ${await step()}`)
    } catch (fault) {
      console.error(fault)
      console.log(`FAIL ${name}: ${fault}`.slice(0, 600))
      process.exit(1)
    }
    console.log(`step ${name} ${((Date.now() - started) / 1000).toFixed(1)} s`)
  }
  console.log(`ok ${told.join('; ')}`)
  process.exit(0)
}

main()
