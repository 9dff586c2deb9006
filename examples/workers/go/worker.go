// A worker of the action demo.charge. NATS_URL names the server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type task struct {
	Key   string `json:"task"`
	Input struct {
		Amount int   `json:"amount"`
		WaitMs int64 `json:"wait_ms"`
		Note   any   `json:"note"`
	} `json:"input"`
	Timeout struct {
		StartToClose    int64 `json:"start_to_close_ms"`
		ScheduleToStart int64 `json:"schedule_to_start_ms"`
		Heartbeat       int64 `json:"heartbeat_ms"`
	} `json:"timeout"`
	ResultSubject string `json:"result_subject"`
}

type failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

func charge(ctx context.Context, t task) (any, *failure) {
	if t.Input.Amount <= 0 {
		return nil, &failure{Code: "bad_amount", Message: "there is nothing to charge"}
	}
	select {
	case <-time.After(time.Duration(t.Input.WaitMs) * time.Millisecond):
	case <-ctx.Done():
		return nil, &failure{Code: "timeout", Message: ctx.Err().Error(), Retryable: true}
	}
	// The key is the same over attempts and deliveries: a provider takes the charge once.
	return map[string]any{"charged": t.Input.Amount, "reference": t.Key, "note": t.Input.Note}, nil
}

func attempt(t task, bytesMax int) []byte {
	ctx, cancel := context.WithCancel(context.Background())
	if t.Timeout.StartToClose > 0 {
		bound := time.Duration(t.Timeout.StartToClose) * time.Millisecond
		ctx, cancel = context.WithTimeout(context.Background(), bound)
	}
	defer cancel()
	data, failed := charge(ctx, t)
	result, _ := json.Marshal(map[string]any{"ok": true, "data": data})
	if failed == nil && len(result) > bytesMax {
		failed = &failure{Code: "result_too_large"}
	}
	if failed != nil {
		result, _ = json.Marshal(map[string]any{"ok": false, "error": failed})
	}
	return result
}

func publish(js jetstream.JetStream, subject string, payload []byte) error {
	message := &nats.Msg{Subject: subject, Data: payload, Header: nats.Header{}}
	message.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
	_, err := js.PublishMsg(context.Background(), message)
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == 10071 {
		return nil // It is there already: fine.
	}
	return err
}

func work(js jetstream.JetStream, message jetstream.Msg) {
	var t task
	if json.Unmarshal(message.Data(), &t) != nil {
		_ = message.Term()
		return
	}
	heartbeat := int64(30_000)
	if t.Timeout.Heartbeat > 0 {
		heartbeat = min(heartbeat, t.Timeout.Heartbeat)
	}
	alive := time.NewTicker(time.Duration(heartbeat) * time.Millisecond / 3)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-alive.C:
				_ = message.InProgress()
			case <-done:
				return
			}
		}
	}()
	defer func() { alive.Stop(); close(done) }()

	var err error
	if t.Timeout.ScheduleToStart > 0 {
		err = publish(js, t.ResultSubject+"-started", []byte(`{"started":true}`))
	}
	if err == nil {
		err = publish(js, t.ResultSubject, attempt(t, int(js.Conn().MaxPayload()/4)))
	}
	if err == nil {
		err = message.DoubleAck(context.Background()) // Result first, acknowledgement after.
	}
	if err != nil {
		log.Println(t.Key, err) // Without an acknowledgement it is handed out again.
	}
}

func main() {
	url := os.Getenv("NATS_URL")
	if url == "" {
		url = nats.DefaultURL
	}
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		log.Fatal(err)
	}
	consumer, err := js.Consumer(context.Background(), "PLED_TASKS", "worker-demo-charge")
	if err != nil {
		log.Fatal(err)
	}
	_, err = consumer.Consume(func(message jetstream.Msg) { go work(js, message) },
		jetstream.PullMaxMessages(8))
	if err != nil {
		log.Fatal(err)
	}
	select {}
}
