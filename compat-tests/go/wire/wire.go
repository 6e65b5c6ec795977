// Package wire speaks to a broker frame by frame, for what no client would send.
package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Connection is one connection on which requests and responses take turns.
type Connection struct {
	net.Conn
	correlation int32
}

// Dial connects.
func Dial(address string) (*Connection, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return &Connection{Conn: conn}, nil
}

// Frame puts the length before a body.
func Frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// Encode gives a request's frame.
func Encode(request kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire")).AppendRequest(nil, request, correlation)
}

// ReadFrame reads one response's frame without its length.
func ReadFrame(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	size := int32(binary.BigEndian.Uint32(length[:]))
	if size < 4 || size > 200<<20 {
		return nil, fmt.Errorf("a response of %d bytes", size)
	}
	frame := make([]byte, size)
	_, err := io.ReadFull(from, frame)
	return frame, err
}

// Ask sends one request in the version set on it and decodes the answer, which must be whole, of that version,
// and nothing more.
func (c *Connection) Ask(request kmsg.Request) (kmsg.Response, error) {
	c.correlation++
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(Encode(request, c.correlation)); err != nil {
		return nil, err
	}
	frame, err := ReadFrame(c)
	if err != nil {
		return nil, err
	}
	if got := int32(binary.BigEndian.Uint32(frame)); got != c.correlation {
		return nil, fmt.Errorf("correlation id %d for %d", got, c.correlation)
	}
	response := request.ResponseKind()
	body := frame[4:]
	// ApiVersions keeps the old header, so that a client can read it whatever its version
	if response.IsFlexible() && request.Key() != 18 {
		if len(body) == 0 || body[0] != 0 {
			return nil, fmt.Errorf("no empty tags in the response's header")
		}
		body = body[1:]
	}
	if err := response.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("the response does not decode: %w", err)
	}
	if again := response.AppendTo(nil); !bytes.Equal(again, body) {
		return nil, fmt.Errorf("the response has %d bytes and means %d: %x / %x", len(body), len(again), head(body), head(again))
	}
	return response, nil
}

func head(bytes []byte) []byte { return bytes[:min(len(bytes), 200)] }

// CloseWrite says that nothing more comes.
func (c *Connection) CloseWrite() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
}

// Closed says whether the broker closes the connection without another byte.
func (c *Connection) Closed() error {
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	read, err := c.Read(make([]byte, 1))
	if read > 0 {
		return fmt.Errorf("it answered")
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return fmt.Errorf("it did not close the connection")
	}
	return nil
}

// Batch is one uncompressed record batch of these values with timestamps now, without a producer id.
func Batch(values ...[]byte) []byte {
	var records []byte
	for i, value := range values {
		record := kmsg.NewRecord()
		record.OffsetDelta = int32(i)
		record.Value = value
		record.Length = int32(len(record.AppendTo(nil)) - 1)
		// the length is a varint; its own size is not counted in it
		body := record.AppendTo(nil)
		_, width := binary.Varint(body)
		record.Length = int32(len(body) - width)
		body = record.AppendTo(nil)
		_, width = binary.Varint(body)
		record.Length = int32(len(body) - width)
		records = record.AppendTo(records)
	}
	return RawBatch(0, int32(len(values)), records)
}

// RawBatch is a batch of records that are encoded (and perhaps compressed, as attributes say) already.
func RawBatch(attributes int16, count int32, records []byte) []byte {
	now := time.Now().UnixMilli()
	batch := kmsg.NewRecordBatch()
	batch.Magic = 2
	batch.PartitionLeaderEpoch = -1
	batch.Attributes = attributes
	batch.LastOffsetDelta = count - 1
	batch.FirstTimestamp, batch.MaxTimestamp = now, now
	batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = -1, -1, -1
	batch.NumRecords = count
	batch.Records = records
	batch.Length = int32(len(batch.AppendTo(nil)) - 12)
	encoded := batch.AppendTo(nil)
	Seal(encoded)
	return encoded
}

// Seal writes the right checksum into a batch.
func Seal(batch []byte) {
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
}
